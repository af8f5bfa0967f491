"""What an operator decides is committed with its audit event, and fences off whoever still runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.dispatch import Signal
from django.utils import timezone

from django_idempotency.core.attempts import Attempt
from django_idempotency.core.execution import execute
from django_idempotency.core.leases import Lease, LeaseTerms
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation
from django_idempotency.core.steps import Step, Steps
from django_idempotency.exceptions import LeaseLost, OutcomeUnknown
from django_idempotency.models import AuditEvent, Record
from django_idempotency.signals import operation_released, operation_resolved
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.resolution import Decision, LeaseIsLive, NothingToResolve, RecordChanged, Resolver
from django_idempotency.stores.sightings import Sighting, find, waiting
from django_idempotency.testing import CREATED, make_operation
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions, seen_from_outside
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)
DAY = timedelta(days=1)
store = DatabaseStore()
resolver = Resolver(store=store)
decision = Decision(actor="user:ops", reason="the bank says so")
forced = Decision(actor="user:ops", reason="the bank says so", force=True)
Verb = Callable[[Sighting, Decision], None]


def done(seen: Sighting, by: Decision) -> None:
    resolver.resolve_done(seen, by, CREATED, ttl=DAY)


VERBS: list[Verb] = [resolver.release, done, resolver.resolve_not_done]
every_verb = pytest.mark.parametrize("verb", VERBS, ids=["release", "done", "not done"])


def reserve(operation: Operation | None = None) -> Lease:
    lease = store.reserve(operation or make_operation(), lease=DAY, ttl=DAY)
    assert isinstance(lease, Lease)
    return lease


def lapse(lease: Lease) -> None:
    an_hour_ago = timezone.now() - timedelta(hours=1)
    assert Record.objects.filter(digest=lease.operation.key.digest).update(lease_expires_at=an_hour_ago) == 1


def see(lease: Lease) -> Sighting:
    return find("default", digest=lease.operation.key.digest.hex())


def facts() -> tuple[list[str], list[str]]:
    return list(Record.objects.values_list("status", flat=True)), list(
        AuditEvent.objects.values_list("event", flat=True)
    )


@contextmanager
def listening(listener: Callable[..., None]) -> Iterator[None]:
    signals: list[Signal] = [operation_released, operation_resolved]
    for signal in signals:
        signal.connect(listener)
    try:
        yield
    finally:
        for signal in signals:
            signal.disconnect(listener)


def complete(lease: Lease, moment: Callable[[], None] = lambda: None) -> None:
    with store.transaction():
        Payment.objects.create(amount=1)
        store.complete(lease, CREATED, ttl=DAY)
        moment()


def wait_until_blocked() -> None:
    """Wait until another session waits for a lock (PostgreSQL; SQLite does not tell, but lets it wait all the same)."""
    deadline = time.monotonic() + PATIENCE
    while connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            if cursor.fetchone():
                return
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.01)


@every_verb
@pytest.mark.parametrize("state", ["lapsed", "unknown", "live"])
def test_the_old_owner_has_lost_its_lease_and_its_effects_roll_back(verb: Verb, state: str) -> None:
    lease = reserve()
    if state == "unknown":
        store.release(lease, unknown=True)
    if state == "lapsed":
        lapse(lease)
    verb(see(lease), forced if state == "live" else decision)
    left = list(Record.objects.values())
    assert not any(row["lease_expires_at"] for row in left)
    with pytest.raises(LeaseLost):
        complete(lease)
    with pytest.raises(LeaseLost):
        store.write_steps(lease, Steps([Step(name="transfer")]))
    assert not store.renew(lease, lease=DAY)
    store.release(lease, unknown=True)
    assert list(Record.objects.values()) == left
    assert Payment.objects.count() == 0


@every_verb
def test_a_lease_that_is_held_needs_force(verb: Verb) -> None:
    lease = reserve()
    with pytest.raises(LeaseIsLive):
        verb(see(lease), decision)
    assert facts() == (["in_progress"], [])
    complete(lease)


@every_verb
def test_a_completed_record_is_refused(verb: Verb) -> None:
    lease = reserve()
    complete(lease)
    with pytest.raises(NothingToResolve, match="completed: nothing to release"):
        verb(see(lease), forced)
    assert facts() == (["completed"], [])


@every_verb
def test_a_lease_that_was_renewed_since_is_refused(verb: Verb) -> None:
    lease = reserve()
    lapse(lease)
    seen = see(lease)
    assert store.renew(lease, lease=DAY)
    with pytest.raises(RecordChanged):
        verb(seen, decision)
    assert facts() == (["in_progress"], [])


@every_verb
def test_a_step_that_ended_since_is_not_forgotten(verb: Verb) -> None:
    lease = reserve()
    store.write_steps(lease, Steps([Step(name="transfer")]))
    seen = see(lease)
    store.write_steps(lease, Steps([Step(name="transfer").done({"id": 1})]))
    with pytest.raises(RecordChanged):
        verb(seen, forced)
    assert see(lease).steps == (Step(name="transfer", is_done=True, result={"id": 1}),)


@every_verb
def test_of_two_operators_one_decides(verb: Verb) -> None:
    lease = reserve()
    store.release(lease, unknown=True)
    seen = see(lease)
    with other_sessions() as start:
        deciding = [start(verb, seen, decision) for _ in range(2)]
        errors = [one.exception(PATIENCE) for one in deciding]
    assert sorted(type(error).__name__ for error in errors) == ["NoneType", "RecordChanged"]
    assert AuditEvent.objects.count() == 1


@every_verb
def test_a_decision_is_news_to_who_looked_before_it(verb: Verb) -> None:
    lease = reserve()
    lease.steps.become(Steps([Step(name="transfer").done(1)]))
    store.release(lease, unknown=False)
    seen = see(lease)
    assert seen.status == "released"
    resolver.resolve_not_done(seen, decision)
    with pytest.raises(RecordChanged):
        verb(seen, decision)
    assert facts() == (["released"], ["resolved_not_done"])


@every_verb
def test_an_owner_that_completes_first_wins(verb: Verb) -> None:
    lease, gate = reserve(), Gate()
    seen = see(lease)
    with other_sessions() as start:
        completing = start(complete, lease, gate)
        try:
            gate.wait_until_reached()
            deciding = start(verb, seen, forced)
            wait_until_blocked()
        finally:
            gate.open()
        completing.result(PATIENCE)
        assert isinstance(deciding.exception(PATIENCE), RecordChanged)
    assert facts() == (["completed"], [])
    assert Payment.objects.count() == 1


@every_verb
def test_an_owner_that_completes_second_loses(verb: Verb) -> None:
    lease, gate = reserve(), Gate()
    with other_sessions() as start, listening(lambda **facts: gate()):
        deciding = start(verb, see(lease), forced)
        try:
            gate.wait_until_reached()
            completing = start(complete, lease)
            wait_until_blocked()
        finally:
            gate.open()
        deciding.result(PATIENCE)
        assert isinstance(completing.exception(PATIENCE), LeaseLost)
    assert Payment.objects.count() == 0
    assert AuditEvent.objects.count() == 1


@every_verb
def test_the_change_and_its_audit_event_commit_together(verb: Verb) -> None:
    lease = reserve()
    store.release(lease, unknown=True)
    seen_inside: list[Any] = []

    def look(**kwargs: Any) -> None:
        seen_inside.append((facts()[1], seen_from_outside(facts)))

    with listening(look):
        verb(see(lease), decision)
    ((inside, outside),) = seen_inside
    assert len(inside) == 1
    assert outside == (["unknown"], [])
    status, events = seen_from_outside(facts)
    assert (status != ["unknown"], events) == (True, inside)


@every_verb
def test_a_listener_that_raises_undoes_both(verb: Verb) -> None:
    lease = reserve()
    store.release(lease, unknown=True)

    def fail(**kwargs: Any) -> None:
        assert AuditEvent.objects.count() == 1
        raise LookupError

    with listening(fail), pytest.raises(LookupError):
        verb(see(lease), decision)
    assert seen_from_outside(facts) == (["unknown"], [])


def test_signals_and_audit_events_tell_the_facts() -> None:
    told: list[dict[str, Any]] = []

    def listen(**kwargs: Any) -> None:
        told.append(kwargs)

    lease = reserve()
    lapse(lease)
    with listening(listen):
        resolver.resolve_not_done(see(lease), decision)
        resolver.release(see(lease), decision)
    common = {
        "sender": DatabaseStore,
        "using": "default",
        "layer": "http",
        "digest": lease.operation.key.digest,
        "operation": "POST payment-list",
        "scope": "user:1",
        "attempt": 1,
        "actor": "user:ops",
        "reason": "the bank says so",
    }
    assert told == [
        {**common, "signal": operation_resolved, "is_done": False},
        {**common, "signal": operation_released, "status": "released"},
    ]
    kept = ("operation", "scope", "attempt", "actor", "reason")
    for event, name in zip(AuditEvent.objects.order_by("id"), ("resolved_not_done", "released"), strict=True):
        assert (event.event, bytes(event.digest)) == (name, lease.operation.key.digest)
        assert {field: getattr(event, field) for field in kept} == {field: common[field] for field in kept}


class Bank:
    """Remembers what it was asked to do; fails once at the transfer."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails = True

    def reserve(self) -> str:
        self.calls.append("reserve")
        return "reserved"

    def transfer(self) -> str:
        self.calls.append("transfer")
        if self.fails:
            self.fails = False
            raise OSError("the connection broke off")
        return "transferred"


def pay(bank: Bank, operation: Operation) -> Any:
    def run(claim: Any) -> Attempt[str]:
        claim.step("reserve", bank.reserve)
        claim.step("transfer", bank.transfer)
        Payment.objects.create(amount=1)
        return Attempt(answer="paid", outcome=CREATED)

    return execute(store, operation, run, ttl=DAY, lease=LeaseTerms())


@pytest.fixture
def broken() -> tuple[Bank, Operation]:
    """A payment that broke off in the middle of a transfer."""
    bank, operation = Bank(), make_operation()
    with pytest.raises(OSError, match="broke off"):
        pay(bank, operation)
    with pytest.raises(OutcomeUnknown):
        pay(bank, operation)
    assert bank.calls == ["reserve", "transfer"]
    return bank, operation


def test_what_was_not_done_is_resumed_after_the_last_finished_step(broken: tuple[Bank, Operation]) -> None:
    bank, operation = broken
    (seen,) = waiting("default", limit=10)
    resolver.resolve_not_done(seen, decision)
    assert [step.name for step in find("default", digest=operation.key.digest.hex()).steps] == ["reserve"]
    assert pay(bank, operation).answer == "paid"
    assert bank.calls == ["reserve", "transfer", "transfer"]
    assert (Record.objects.get().status, Record.objects.get().attempt) == ("completed", 2)
    assert Payment.objects.count() == 1


def test_what_is_released_runs_anew(broken: tuple[Bank, Operation]) -> None:
    bank, operation = broken
    (seen,) = waiting("default", limit=10)
    resolver.release(seen, decision)
    assert pay(bank, operation).answer == "paid"
    assert bank.calls == ["reserve", "transfer", "reserve", "transfer"]


def test_what_was_done_is_replayed_and_expires(broken: tuple[Bank, Operation]) -> None:
    bank, operation = broken
    outcome = Outcome(status=201, headers=(("Location", "/x"), ("Content-Type", "text/plain")), body="é\0".encode())
    (seen,) = waiting("default", limit=10)
    resolver.resolve_done(seen, decision, outcome, ttl=DAY)
    assert pay(bank, operation).replayed == outcome
    record = Record.objects.get()
    assert record.completed_at is not None
    assert record.expires_at - record.completed_at == DAY
    assert abs(timezone.now() - record.completed_at) < timedelta(seconds=30)
    assert bytes(record.outcome_hash or b"") == outcome.hash
    assert (record.owner, record.lease_expires_at) == (None, None)
    assert bank.calls == ["reserve", "transfer"]
    Record.objects.update(expires_at=timezone.now())
    assert pay(bank, operation).answer == "paid"

"""Leases of the model-backed store: each change names the owner, and deadlines are the database's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import override_settings

from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.records import Claim, Operation
from django_idempotency.core.records import Record as StoredRecord
from django_idempotency.core.steps import Step, Steps
from django_idempotency.exceptions import ClaimLost, FingerprintMismatch, LeaseLost, OperationInProgress, OutcomeUnknown
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.models import Record
from django_idempotency.testing import CREATED, DAY, make_operation
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions, seen_from_outside
from tests.conformance.views_leases import lapse, remaining
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
store = DatabaseStore()


def reserve(operation: Operation, lease: timedelta = MINUTE) -> Lease:
    lease_or_held = store.reserve(operation, lease=lease, ttl=DAY)
    assert isinstance(lease_or_held, Lease)
    return lease_or_held


def look(operation: Operation) -> Held:
    held = store.reserve(operation, lease=MINUTE, ttl=DAY)
    assert isinstance(held, Held)
    return held


def take_over(operation: Operation, lease: timedelta = MINUTE) -> Lease:
    taken = store.take_over(operation, look(operation), lease=lease)
    assert taken
    return taken


def row() -> dict[str, Any]:
    values = Record.objects.values().get()
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in values.items()}


ZOMBIE_VERBS: dict[str, Callable[[Lease], Any]] = {
    "complete": lambda lease: store.complete(lease, CREATED, ttl=DAY),
    "renew": lambda lease: store.renew(lease, lease=MINUTE),
    "release": lambda lease: store.release(lease, unknown=False),
    "give up": lambda lease: store.release(lease, unknown=True),
    "write steps": lambda lease: store.write_steps(lease, Steps([Step(name="transfer")])),
}


@pytest.mark.parametrize("verb", ZOMBIE_VERBS)
@pytest.mark.parametrize("since", ["taken over", "completed", "given up", "released and reserved again"])
def test_a7_89_a_zombie_changes_nothing(verb: str, since: str) -> None:
    operation = make_operation()
    zombie = reserve(operation, timedelta(0))
    owner = take_over(operation)
    if since == "completed":
        store.complete(owner, CREATED, ttl=DAY)
    elif since == "given up":
        store.release(owner, unknown=True)
    elif since == "released and reserved again":
        store.release(owner, unknown=False)
        reserve(operation)
    before = row()
    if verb in ("complete", "write steps"):
        with pytest.raises(LeaseLost):
            ZOMBIE_VERBS[verb](zombie)
    else:
        assert not ZOMBIE_VERBS[verb](zombie)
    assert row() == before


@pytest.mark.parametrize("status", ["in_progress", "unknown", "released"])
def test_a7_89_only_what_is_still_as_it_was_seen_is_taken_over(status: str) -> None:
    operation = make_operation()
    first = reserve(operation, timedelta(0))
    if status != "in_progress":
        first.steps.become(Steps([Step(name="transfer")]))
        store.release(first, unknown=status == "unknown")
    seen = look(operation)
    assert (seen.status, seen.has_lapsed) == (status, status == "in_progress")
    assert take_over(operation).attempt == 2
    before = row()
    assert store.take_over(operation, seen, lease=MINUTE) is None
    assert row() == before


def test_a7_91_a_lapsed_lease_that_nobody_took_is_renewed() -> None:
    operation = make_operation(key="k")
    lease = reserve(operation, timedelta(0))
    assert store.renew(lease, lease=MINUTE)
    assert remaining("k") > timedelta(0)
    assert store.take_over(operation, look(operation), lease=MINUTE) is None


@pytest.mark.postgresql
def test_a7_91_a_heartbeat_does_not_wait_for_the_completion_whose_lease_it_renews() -> None:
    operation, gate = make_operation(), Gate()
    lease = reserve(operation)

    def complete() -> None:
        with store.transaction():
            store.complete(lease, CREATED, ttl=DAY)
            gate()

    with other_sessions() as start:
        completed = start(complete)
        gate.wait_until_reached()
        assert start(store.renew, lease, lease=MINUTE).result(5)
        gate.open()
        completed.result(PATIENCE)
    assert not store.renew(lease, lease=MINUTE)


def test_a7_92_a_missing_deadline_is_no_orphan() -> None:
    operation = make_operation()
    reserve(operation)
    Record.objects.update(lease_expires_at=None)
    seen = look(operation)
    assert (seen.status, seen.has_lapsed) == ("in_progress", False)
    assert store.take_over(operation, seen, lease=MINUTE) is None


@pytest.mark.parametrize("left", [timedelta(0), -timedelta(milliseconds=1), -DAY])
def test_a7_92_no_remaining_time_is_a_lapsed_lease(left: timedelta) -> None:
    operation = make_operation()
    reserve(operation, left)
    assert look(operation).has_lapsed
    assert take_over(operation).attempt == 2


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("lease", [timedelta(milliseconds=1500), 15 * MINUTE, 2 * DAY])
def test_a7_92_a_lease_holds_for_as_long_as_was_asked(lease: timedelta, use_tz: bool, zone: str) -> None:
    operation = make_operation(key="k")
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        mine = reserve(operation, lease)
        assert not look(operation).has_lapsed
        with override_settings(USE_TZ=True, TIME_ZONE="UTC"):
            if connection.vendor == "postgresql" or use_tz:
                assert abs(remaining("k") - lease) < SECOND
        assert store.renew(mine, lease=timedelta(0))
        assert look(operation).has_lapsed
        assert store.renew(mine, lease=lease)
        assert not look(operation).has_lapsed


@pytest.mark.parametrize("status", ["in_progress", "unknown", "released"])
def test_a8_107_a_purge_takes_only_what_is_completed(status: str) -> None:
    lease = reserve(make_operation(), timedelta(0))
    if status != "in_progress":
        lease.steps.become(Steps([Step(name="transfer")]))
        store.release(lease, unknown=status == "unknown")
    Record.objects.update(expires_at=Now() - DAY)
    assert (store.count_expired(), list(store.purge(batch_size=10))) == (0, [])
    assert Record.objects.get().status == status
    assert isinstance(store.reserve(lease.operation, lease=MINUTE, ttl=DAY), Held)


def claim(operation: Operation) -> Any:
    with store.transaction() as attempt:
        found = store.claim(operation)
        attempt.rollback()
    return found


def test_a_transaction_claim_meets_a_lease() -> None:
    operation = make_operation(key="k")
    other = make_operation("other content", key="k")
    lease = reserve(operation)
    for status, error in (
        ("in_progress", OperationInProgress),
        ("lapsed", OutcomeUnknown),
        ("unknown", OutcomeUnknown),
    ):
        if status == "lapsed":
            lapse("k")
        elif status == "unknown":
            store.release(lease, unknown=True)
        with pytest.raises(error):
            claim(operation)
        with pytest.raises(FingerprintMismatch):
            claim(other)
    taken = take_over(operation)
    taken.steps.become(Steps([Step(name="transfer", is_done=True)]))
    store.release(taken, unknown=False)
    with pytest.raises(OutcomeUnknown):
        claim(operation)
    store.complete(take_over(operation), CREATED, ttl=DAY)
    assert isinstance(claim(operation), StoredRecord)


@pytest.mark.postgresql
def test_of_a_transaction_claim_and_a_lease_that_begins_meanwhile_one_commits() -> None:
    operation = make_operation()
    leases: list[Lease] = []

    def run() -> None:
        with store.transaction():
            claimed = store.claim(operation)
            assert isinstance(claimed, Claim)
            Payment.objects.create(amount=1)
            leases.append(seen_from_outside(lambda: reserve(operation)))
            store.complete(claimed, CREATED, ttl=DAY)

    with pytest.raises(ClaimLost):
        run()
    assert Payment.objects.count() == 0
    store.complete(leases[0], CREATED, ttl=DAY)
    assert Record.objects.get().status == "completed"


def test_a_lease_within_a_transaction_is_refused() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        reserve(make_operation())
    assert Record.objects.count() == 0


@pytest.mark.postgresql
def test_a7_91_a_duplicate_does_not_lock_the_record_whose_lease_is_to_be_renewed() -> None:
    """A heartbeat passes over a locked record, so that a storm of duplicates could keep it from renewing."""
    operation = make_operation()
    reserve(operation)
    before = last_locked_by()
    look(operation)
    assert last_locked_by() == before


def last_locked_by() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmax, ctid FROM idempotency_record")
        return cursor.fetchone()

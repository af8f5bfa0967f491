"""Whatever the order of their statements, one owner commits its effect, and a zombie none.

``python -m pytest -m campaign tests/stores/test_interleavings.py`` adds a third session, and stricter isolation levels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest
from django.utils import timezone
from psycopg import IsolationLevel

from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation
from django_idempotency.exceptions import IdempotencyError, TransactionConflict
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.models import Record
from django_idempotency.testing import DAY, make_operation
from tests.campaigns.harness import Report
from tests.campaigns.sessions import connection_options
from tests.models import Payment
from tests.stores.interleavings import Script, interleavings, run, sessions

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

store = DatabaseStore()


@dataclass
class Case:
    """One operation, who has been told that it is done, and who has lost it to whom."""

    operation: Operation = field(default_factory=make_operation)
    zombie: Lease | None = None
    told: list[str] = field(default_factory=list)
    errors: list[IdempotencyError] = field(default_factory=list)
    is_taken_over: bool = False

    def pay(self, name: str, claim: Claim, *, last: bool = False) -> None:
        """Write an effect, and an outcome that says whose."""
        Payment.objects.create(reference=name, amount=1)
        store.complete(claim, Outcome(status=201, body=name.encode()), ttl=DAY, last=last)

    def transact(self, name: str, *, last: bool = False, is_rolled_back: bool = False) -> Script:
        """Claim, complete and commit; or complete and commit in one statement."""
        with store.transaction() as transaction:
            claim = store.claim(self.operation)
            if not isinstance(claim, Claim):
                return
            yield
            self.pay(name, claim, last=last)
            yield
            if is_rolled_back:
                transaction.rollback()
                return
        self.told.append(name)

    def work(self, name: str, lease: Lease) -> Script:
        """Complete under a lease and commit."""
        with store.transaction():
            self.pay(name, lease)
            yield
        self.told.append(name)

    def lease(self, name: str) -> Script:
        """Reserve, complete and commit."""
        lease = self.reserve()
        yield
        if isinstance(lease, Lease):
            yield from self.work(name, lease)

    def take_over(self, name: str) -> Script:
        """Look, take over, complete and commit."""
        held = self.reserve()
        yield
        lease = store.take_over(self.operation, held, lease=DAY) if isinstance(held, Held) and not held.record else None
        if lease:
            self.is_taken_over = True
            yield
            yield from self.work(name, lease)

    def awake(self, name: str, *, renews: bool = False) -> Script:
        """Complete under a lease that has lapsed, and commit."""
        assert self.zombie
        if renews:
            store.renew(self.zombie, lease=DAY)
            yield
        yield from self.work("zombie", self.zombie)

    def release(self, name: str, *, unknown: bool) -> Script:
        """Let go of a lease that has lapsed."""
        assert self.zombie
        store.release(self.zombie, unknown=unknown)
        yield

    def purge(self, name: str) -> Script:
        """Purge."""
        for _ in store.purge(batch_size=10):
            pass
        yield

    def reserve(self) -> Lease | Held:
        """Ask for a lease that does not end by itself."""
        return store.reserve(self.operation, lease=DAY, ttl=DAY)

    def told_of(self, script: Callable[[str], Script], name: str) -> Script:
        """Let a script end where it is refused."""
        try:
            yield from script(name)
        except IdempotencyError as error:
            self.errors.append(error)


def nothing(case: Case) -> None:
    """Nothing is known of the key."""


def expired(case: Case) -> None:
    """The key has been used before, and that has been forgotten."""
    with store.transaction():
        claim = store.claim(case.operation)
        assert isinstance(claim, Claim)
        store.complete(claim, Outcome(status=201, body=b"before"), ttl=-DAY)


def lapsed(case: Case) -> None:
    """Somebody holds a lease beyond its deadline."""
    lease = case.reserve()
    assert isinstance(lease, Lease)
    Record.objects.update(lease_expires_at=timezone.now() - timedelta(hours=1))
    case.zombie = lease


# Scripts, and how many steps they take.
TRANSACT: Any = (Case.transact, 3)
AT_ONCE: Any = (partial(Case.transact, last=True), 3)
UNDONE: Any = (partial(Case.transact, is_rolled_back=True), 3)
LEASE: Any = (Case.lease, 3)
TAKE_OVER: Any = (Case.take_over, 4)
AWAKE: Any = (Case.awake, 2)
RENEWING: Any = (partial(Case.awake, renews=True), 3)
RELEASE: Any = (partial(Case.release, unknown=False), 1)
GIVE_UP: Any = (partial(Case.release, unknown=True), 1)
PURGE: Any = (Case.purge, 1)

# Two scripts, and whether one of them must come to its end.
BEGINNERS: dict[str, Any] = {
    "two transactions": (TRANSACT, TRANSACT, True),
    "one commits at once": (TRANSACT, AT_ONCE, True),
    "both commit at once": (AT_ONCE, AT_ONCE, True),
    "one is undone": (TRANSACT, UNDONE, False),
    "transaction and lease": (TRANSACT, LEASE, True),
    "at once and lease": (AT_ONCE, LEASE, True),
    "undone and lease": (UNDONE, LEASE, True),
    "two leases": (LEASE, LEASE, True),
}
ZOMBIES: dict[str, Any] = {
    "awake": (AWAKE, TAKE_OVER, True),
    "renewing": (RENEWING, TAKE_OVER, True),
    "released": (RELEASE, TAKE_OVER, False),
    "given up": (GIVE_UP, TAKE_OVER, False),
    "two take over": (TAKE_OVER, TAKE_OVER, True),
}
THIRDS: dict[str, Any] = {"purge": PURGE, "transaction": TRANSACT, "lease": LEASE, "take over": TAKE_OVER}
THREE = [
    *product([nothing, expired], ["purge", "transaction", "lease"]),
    *product([lapsed], ["purge", "take over"]),
]
LEVELS = [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]
LONG = [pytest.mark.campaign, pytest.mark.timeout(3600)]


def every_order(before: Callable[[Case], None], scripts: list[Any], *, one_must_end: bool) -> Counter[str]:
    """Run scripts in every order; count the orders, and those that made somebody wait."""
    counts: Counter[str] = Counter()
    with sessions(len(scripts)) as opened:
        for order in interleavings([steps for _, steps in scripts]):
            Payment.objects.all().delete()
            Record.objects.all().delete()
            case = Case()
            before(case)
            named = zip(scripts, ("first", "second", "third"), strict=False)
            told = [partial(case.told_of, partial(script, case), name) for (script, _), name in named]
            counts["with a wait"] += run(opened, told, order)
            counts["orders"] += 1
            check(case, order, one_must_end)
    return counts


def check(case: Case, order: tuple[int, ...], one_must_end: bool) -> None:
    """One owner at most, whose effect and outcome are there; and no zombie among them."""
    story = f"order {order}: told {case.told}, errors {[type(error).__name__ for error in case.errors]}"
    assert list(Payment.objects.values_list("reference", flat=True)) == case.told, story
    assert len(case.told) <= 1, story
    assert not ("zombie" in case.told and case.is_taken_over), story
    live = Record.objects.filter(status="completed", expires_at__gt=timezone.now())
    assert [bytes(record.response_body or b"").decode() for record in live] == case.told, story
    if one_must_end:
        assert case.told, story
        assert not any(isinstance(error, TransactionConflict) for error in case.errors), story


@pytest.mark.parametrize("before", [nothing, expired])
@pytest.mark.parametrize("name", BEGINNERS)
def test_of_two_who_begin_one_commits(name: str, before: Callable[[Case], None]) -> None:
    *scripts, one_must_end = BEGINNERS[name]
    counts = every_order(before, scripts, one_must_end=one_must_end)
    waits = "lease" in name and name != "two leases"  # a lease comes in between; other transactions are refused first
    assert bool(counts["with a wait"]) == waits


@pytest.mark.parametrize("name", ZOMBIES)
def test_of_who_wakes_and_who_takes_over_one_commits(name: str) -> None:
    *scripts, one_must_end = ZOMBIES[name]
    every_order(lapsed, scripts, one_must_end=one_must_end)


@pytest.mark.parametrize("before", [nothing, expired])
def test_a_purge_changes_nothing_for_who_begins(before: Callable[[Case], None]) -> None:
    every_order(before, [TRANSACT, LEASE, PURGE], one_must_end=True)


def test_a_purge_changes_nothing_for_zombies() -> None:
    every_order(lapsed, [AWAKE, TAKE_OVER, PURGE], one_must_end=True)


@pytest.mark.parametrize("level", [pytest.param(level, marks=LONG) for level in LEVELS], ids=lambda level: level.name)
@pytest.mark.parametrize(("before", "third"), THREE, ids=lambda value: getattr(value, "__name__", None))
def test_of_three_at_any_isolation_level_one_commits(
    before: Callable[[Case], None], third: str, level: IsolationLevel, request: pytest.FixtureRequest
) -> None:
    counts: Counter[str] = Counter()
    with Report(campaign=request.node.name) as report, connection_options(isolation_level=level):
        for first, second, _ in (ZOMBIES if before is lapsed else BEGINNERS).values():
            counts += every_order(before, [first, second, THIRDS[third]], one_must_end=False)
        report.counts = dict(counts)

"""Heartbeats: the real thread, over the reference store."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from django_idempotency.core.heartbeats import Heartbeats
from django_idempotency.core.leases import Held, Lease, LeaseTerms
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.stores.memory import MemoryStore
from django_idempotency.testing import DAY, make_operation
from tests.campaigns.harness import eventually

BEAT, LEASE = timedelta(milliseconds=10), timedelta(minutes=1)
QUICK = LeaseTerms(lease=LEASE, heartbeat=BEAT)


class CountingStore(MemoryStore):
    """Counts the renewals of each lease, fails as often as it is told, and knows whether its user is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.renewals: Counter[UUID] = Counter()
        self.faults: list[Exception] = []
        self.threads: set[int | None] = set()
        self.is_closed = False

    def renew(self, held: Lease, *, lease: timedelta) -> bool:
        self.renewals[held.owner] += 1
        self.threads.add(threading.current_thread().ident)
        if self.faults:
            raise self.faults.pop()
        return super().renew(held, lease=lease)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def heartbeats(store: CountingStore) -> Iterator[Heartbeats]:
    beating = Heartbeats()
    yield beating
    if store.renewals:
        eventually(lambda: store.is_closed, "the end of the thread")


def begin(store: CountingStore, lease: timedelta = LEASE) -> Lease:
    begun = store.reserve(make_operation(), lease=lease, ttl=DAY)
    assert isinstance(begun, Lease)
    return begun


def has_lapsed(store: CountingStore, lease: Lease) -> bool:
    held = store.reserve(lease.operation, lease=LEASE, ttl=DAY)
    assert isinstance(held, Held)
    return held.has_lapsed


def test_a_lease_is_renewed_for_as_long_as_its_work_lasts(heartbeats: Heartbeats, store: CountingStore) -> None:
    lease = begin(store, timedelta(0))
    with heartbeats.keep(store, lease, QUICK):
        eventually(lambda: store.renewals[lease.owner] >= 3, "three renewals")
        assert not has_lapsed(store, lease)
    eventually(lambda: store.is_closed, "the end of the thread")
    counted = store.renewals[lease.owner]
    with heartbeats.keep(store, begin(store), QUICK):
        eventually(lambda: store.renewals.total() >= counted + 3, "renewals of another lease")
    assert store.renewals[lease.owner] == counted


def test_work_that_fails_ends_its_heartbeat_too(heartbeats: Heartbeats, store: CountingStore) -> None:
    lease = begin(store)

    def work() -> None:
        with heartbeats.keep(store, lease, QUICK):
            eventually(lambda: store.renewals[lease.owner], "a renewal")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    eventually(lambda: store.is_closed, "the end of the thread")


def test_an_interval_of_zero_renews_nothing_and_starts_no_thread(store: CountingStore) -> None:
    before = threading.active_count()
    with Heartbeats().keep(store, begin(store), LeaseTerms(lease=LEASE, heartbeat=timedelta(0))):
        assert threading.active_count() == before


def test_one_thread_renews_all_each_at_its_own_interval(heartbeats: Heartbeats, store: CountingStore) -> None:
    slow, one, other = (begin(store) for _ in range(3))
    with (
        heartbeats.keep(store, slow, LeaseTerms(lease=LEASE, heartbeat=LEASE / 2)),
        heartbeats.keep(store, one, QUICK),
        heartbeats.keep(store, other, QUICK),
    ):
        eventually(lambda: min(store.renewals[lease.owner] for lease in (one, other)) >= 3, "renewals of both")
    assert store.renewals[slow.owner] == 0
    assert len(store.threads) == 1


def test_a_lease_that_was_lost_is_left_alone(heartbeats: Heartbeats, store: CountingStore) -> None:
    lost, held = begin(store), begin(store)
    store.release(lost, unknown=True)
    with heartbeats.keep(store, lost, QUICK), heartbeats.keep(store, held, QUICK):
        eventually(lambda: store.renewals[held.owner] >= 5, "five renewals")
    assert store.renewals[lost.owner] == 1


def test_a_run_is_kept_alive_no_longer_than_its_limit(heartbeats: Heartbeats, store: CountingStore) -> None:
    terms = LeaseTerms(lease=5 * BEAT, heartbeat=BEAT, heartbeat_limit=10 * BEAT)
    endless = begin(store, terms.lease)
    with heartbeats.keep(store, endless, terms):
        eventually(lambda: store.is_closed, "the end of the thread, though the work goes on")
        eventually(lambda: has_lapsed(store, endless), "the end of the lease")
    assert 1 <= store.renewals[endless.owner] <= 10


@pytest.mark.parametrize("fault", [StoreUnavailable(), LookupError("a defect of the store")])
def test_a_renewal_that_fails_is_logged_and_tried_again(
    heartbeats: Heartbeats, store: CountingStore, fault: Exception, caplog: Any
) -> None:
    lease = begin(store, timedelta(0))
    store.faults = [fault]
    with caplog.at_level(logging.WARNING, "django_idempotency"), heartbeats.keep(store, lease, QUICK):
        eventually(lambda: not has_lapsed(store, lease), "a renewal")
    (record,) = caplog.records
    assert lease.operation.key.prefix in record.message
    assert lease.operation.key.value not in caplog.text
    assert bool(record.exc_info) is isinstance(fault, LookupError)


def test_by_default_a_lease_is_renewed_three_times() -> None:
    assert LeaseTerms(lease=LEASE).interval == LEASE / 3
    assert LeaseTerms(lease=LEASE, heartbeat=BEAT).interval == BEAT

"""What any store must do with leases."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.core.steps import Step, Steps
from django_idempotency.exceptions import FingerprintMismatch, LeaseLost, OperationInProgress, OutcomeUnknown
from django_idempotency.stores.base import Store
from django_idempotency.testing.operations import CREATED, DAY, make_operation

MINUTE, MOMENT = timedelta(minutes=1), timedelta(milliseconds=20)
BEGUN = Steps([Step(name="transfer", version="1")])
DONE = Steps([Step(name="transfer", version="1", is_done=True, result={"reference": "r-1"})])


class LeaseContract:
    """What any store must do with leases. Part of the StoreContract."""

    def make_store(self) -> Store:
        """Return the store under test."""
        raise NotImplementedError

    def reserve(self, store: Store, operation: Operation, lease: timedelta = MINUTE) -> Lease:
        """Begin an operation under a lease."""
        reserved = store.reserve(operation, lease=lease, ttl=DAY)
        assert isinstance(reserved, Lease)
        return reserved

    def look(self, store: Store, operation: Operation) -> Held:
        """Return what stands in the way of a lease."""
        held = store.reserve(operation, lease=MINUTE, ttl=DAY)
        assert isinstance(held, Held)
        return held

    def lapsed(self, store: Store, operation: Operation) -> Held:
        """Wait for the end of a short lease."""
        deadline = time.monotonic() + 30
        while not (held := self.look(store, operation)).has_lapsed:
            assert time.monotonic() < deadline, "the lease does not end"
            time.sleep(0.002)
        return held

    def overtaken(self, store: Store, operation: Operation) -> tuple[Lease, Lease]:
        """Return a lease that was lost, and the one that is held in its place."""
        zombie = self.reserve(store, operation, MOMENT)
        owner = store.take_over(operation, self.lapsed(store, operation), lease=MINUTE)
        assert owner is not None
        return zombie, owner

    def finish(self, store: Store, lease: Lease) -> None:
        """Complete an operation under a lease."""
        with store.transaction():
            store.complete(lease, CREATED, ttl=DAY)

    def test_who_reserves_first_holds_and_others_see_who_and_since_which_request(self) -> None:
        """A lease is visible to all as soon as it is reserved."""
        store, operation = self.make_store(), make_operation(key="k")
        lease = self.reserve(store, operation)
        held = self.look(store, make_operation("other content", key="k"))
        assert (lease.attempt, lease.fingerprint, bool(lease.steps)) == (1, operation.fingerprint, False)
        assert (held.status, held.owner, held.attempt) == ("in_progress", lease.owner, 1)
        assert (held.fingerprint, held.has_lapsed, held.record) == (operation.fingerprint, False, None)
        assert store.take_over(operation, held, lease=MINUTE) is None

    def test_a_completed_lease_is_a_record(self) -> None:
        """What was completed under a lease is found by leases and by transactions."""
        store, operation = self.make_store(), make_operation()
        self.finish(store, self.reserve(store, operation))
        record = self.look(store, operation).record
        assert record is not None
        assert (record.outcome, record.fingerprint) == (CREATED, operation.fingerprint)
        found = self.claim(store, operation)
        assert isinstance(found, Record)
        assert found.outcome == CREATED

    def test_a_lease_that_ended_is_taken_over_once(self) -> None:
        """Whoever saw the same comes too late; the fingerprint stays that of the first attempt."""
        store, operation = self.make_store(), make_operation()
        first = self.reserve(store, operation, MOMENT)
        seen = self.lapsed(store, operation)
        second = store.take_over(operation, seen, lease=MINUTE)
        assert second is not None
        assert (second.attempt, second.fingerprint) == (2, first.fingerprint)
        assert second.owner != first.owner
        assert store.take_over(operation, seen, lease=MINUTE) is None
        self.finish(store, second)

    def test_a_lease_that_is_renewed_does_not_end(self) -> None:
        """The deadline is moved, also one that has passed, as long as nobody has taken over."""
        store, operation = self.make_store(), make_operation()
        lease = self.reserve(store, operation, MOMENT)
        self.lapsed(store, operation)
        assert store.renew(lease, lease=MINUTE)
        held = self.look(store, operation)
        assert (held.owner, held.has_lapsed) == (lease.owner, False)
        assert store.take_over(operation, held, lease=MINUTE) is None

    def test_who_has_lost_its_lease_changes_nothing(self) -> None:
        """Each change names the owner: a zombie renews, releases, writes and completes in vain."""
        store, operation = self.make_store(), make_operation()
        zombie, owner = self.overtaken(store, operation)
        assert not store.renew(zombie, lease=DAY)
        store.release(zombie, unknown=False)
        store.release(zombie, unknown=True)
        for change in (partial(store.write_steps, zombie, DONE), partial(self.finish, store, zombie)):
            self.assert_raises(LeaseLost, change)
        held = self.look(store, operation)
        assert (held.status, held.owner, bool(held.steps)) == ("in_progress", owner.owner, False)
        self.finish(store, owner)

    def test_steps_are_there_for_who_takes_over(self) -> None:
        """What was written outlives the attempt that wrote it."""
        store, operation = self.make_store(), make_operation()
        lease = self.reserve(store, operation, MOMENT)
        for steps in (BEGUN, DONE):
            store.write_steps(lease, steps)
            assert self.look(store, operation).steps.encode() == steps.encode()
        taken = store.take_over(operation, self.lapsed(store, operation), lease=MINUTE)
        assert taken is not None
        assert taken.steps.encode() == DONE.encode()

    def test_steps_that_were_written_after_a_look_are_there_too(self) -> None:
        """A result that somebody got meanwhile is not lost: the call behind it would be repeated."""
        store, operation = self.make_store(), make_operation()
        lease = self.reserve(store, operation, MOMENT)
        store.write_steps(lease, BEGUN)
        seen = self.lapsed(store, operation)
        store.write_steps(lease, DONE)
        taken = store.take_over(operation, seen, lease=MINUTE)
        assert taken is not None
        assert taken.steps.encode() == DONE.encode()
        assert self.look(store, operation).steps.encode() == DONE.encode()

    def test_what_is_completed_is_not_taken_over(self) -> None:
        """Whenever it was looked at: an outcome that a client may have been told stays."""
        store, operation = self.make_store(), make_operation()
        lease = self.reserve(store, operation, MOMENT)
        before = self.lapsed(store, operation)
        self.finish(store, lease)
        for seen in (before, self.look(store, operation)):
            assert store.take_over(operation, seen, lease=MINUTE) is None
        found = self.claim(store, operation)
        assert isinstance(found, Record)
        assert found.outcome == CREATED

    def test_a_release_without_steps_leaves_nothing(self) -> None:
        """The key is as good as new."""
        store, operation = self.make_store(), make_operation(key="k")
        store.release(self.reserve(store, operation), unknown=False)
        assert self.reserve(store, make_operation("other content", key="k")).attempt == 1

    def test_a_release_with_steps_keeps_them_and_the_request(self) -> None:
        """Only the same request goes on after its steps."""
        store, operation = self.make_store(), make_operation()
        lease = self.reserve(store, operation)
        lease.steps.become(DONE)
        store.release(lease, unknown=False)
        held = self.look(store, operation)
        assert (held.status, held.fingerprint) == ("released", operation.fingerprint)
        taken = store.take_over(operation, held, lease=MINUTE)
        assert taken is not None
        assert (taken.attempt, taken.steps.encode()) == (2, DONE.encode())

    def test_an_unknown_outcome_stays_until_somebody_takes_it_over(self) -> None:
        """It is not a lease that ends by itself."""
        store, operation = self.make_store(), make_operation()
        lease = self.reserve(store, operation, MOMENT)
        self.lapsed(store, operation)
        store.release(lease, unknown=True)
        held = self.look(store, operation)
        assert (held.status, held.has_lapsed) == ("unknown", False)
        assert not store.renew(lease, lease=MINUTE)
        taken = store.take_over(operation, held, lease=MINUTE)
        assert taken is not None
        self.finish(store, taken)

    def test_a_purge_takes_no_lease(self) -> None:
        """Only what is completed expires."""
        store, held, unknown = self.make_store(), make_operation(), make_operation()
        for operation in (held, unknown):
            assert isinstance(store.reserve(operation, lease=MOMENT, ttl=timedelta(0)), Lease)
        lease = store.take_over(unknown, self.lapsed(store, unknown), lease=MINUTE)
        assert lease is not None
        store.release(lease, unknown=True)
        assert (store.count_expired(), list(store.purge(batch_size=10))) == (0, [])
        assert [self.look(store, operation).status for operation in (held, unknown)] == ["in_progress", "unknown"]

    def test_a_purge_leaves_a_lease_in_the_place_of_what_has_expired(self) -> None:
        """The key is in use again."""
        store, operation = self.make_store(), make_operation()
        with store.transaction():
            claim = store.claim(operation)
            assert isinstance(claim, Claim)
            store.complete(claim, CREATED, ttl=timedelta(0))
        lease = self.reserve(store, operation)
        assert (store.count_expired(), list(store.purge(batch_size=10))) == (0, [])
        self.finish(store, lease)

    def test_a_transaction_does_not_run_what_is_under_a_lease(self) -> None:
        """It is told what a lease would be told; another request, that the key is taken."""
        store, operation = self.make_store(), make_operation(key="k")
        lease = self.reserve(store, operation)
        for status, error in (("in progress", OperationInProgress), ("unknown", OutcomeUnknown)):
            if status == "unknown":
                store.release(lease, unknown=True)
            self.assert_raises(error, partial(self.claim, store, operation))
            self.assert_raises(FingerprintMismatch, partial(self.claim, store, make_operation("other", key="k")))

    def claim(self, store: Store, operation: Operation) -> Claim | Record:
        """Claim within a transaction."""
        with store.transaction():
            return store.claim(operation)

    def assert_raises(self, error: type[Exception], call: Callable[[], object]) -> None:
        """Call, in vain."""
        try:
            call()
        except error:
            return
        raise AssertionError(f"{error.__name__} must be raised")

"""What any store must do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from django.db import connections

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import ClaimLost, OperationInProgress
from django_idempotency.stores.base import Store
from django_idempotency.testing.leases import LeaseContract
from django_idempotency.testing.operations import CREATED, DAY, make_operation


class StoreContract(LeaseContract):
    """What any store must do. Subclass it in a test module with ``make_store`` and a name that the runner collects.

    The tests commit, so a database needs tests that are not wrapped in a transaction.
    """

    def keep(self, store: Store, operation: Operation, outcome: Outcome = CREATED, ttl: timedelta = DAY) -> datetime:
        """Run an operation to its end."""
        with store.transaction():
            claim = store.claim(operation)
            assert isinstance(claim, Claim)
            return store.complete(claim, outcome, ttl=ttl)

    def found(self, store: Store, operation: Operation) -> Record | None:
        """Return the live record that a claim would meet."""
        with store.transaction() as transaction:
            claimed = store.claim(operation)
            transaction.rollback()
        return claimed if isinstance(claimed, Record) else None

    def test_a_new_key_is_claimed(self) -> None:
        """Nothing is known of a new key."""
        store, operation = self.make_store(), make_operation()
        assert store.recall(operation) is None
        assert self.found(store, operation) is None

    def test_a_completed_operation_is_found_with_its_outcome(self) -> None:
        """What was kept comes back byte for byte."""
        store, operation = self.make_store(), make_operation()
        expires_at = self.keep(store, operation)
        record = self.found(store, operation)
        assert record is not None
        assert record.outcome == CREATED
        assert record.fingerprint == operation.fingerprint
        assert abs(record.expires_at - expires_at) < timedelta(milliseconds=1)

    def test_the_expiry_is_the_retention_from_now(self) -> None:
        """An outcome is kept for as long as was promised."""
        expires_at = self.keep(self.make_store(), make_operation(), ttl=timedelta(hours=3))
        assert abs(expires_at - datetime.now(UTC) - timedelta(hours=3)) < timedelta(seconds=30)

    def test_an_outcome_without_a_body_is_a_tombstone(self) -> None:
        """No body is not an empty body."""
        store, tombstone, empty = self.make_store(), make_operation(), make_operation()
        self.keep(store, tombstone, Outcome(status=200, body=None))
        self.keep(store, empty, Outcome(status=204, body=b""))
        kept = [self.found(store, operation) for operation in (tombstone, empty)]
        assert [record and record.outcome.body for record in kept] == [None, b""]

    def test_another_scope_is_another_key(self) -> None:
        """Nothing is seen across scopes."""
        store = self.make_store()
        self.keep(store, make_operation(key="k", scope="user:1"))
        assert self.found(store, make_operation(key="k", scope="user:2")) is None

    def test_a_rolled_back_claim_leaves_nothing(self) -> None:
        """A rollback frees the key at once."""
        store, operation = self.make_store(), make_operation()
        with store.transaction() as transaction:
            claim = store.claim(operation)
            assert isinstance(claim, Claim)
            store.complete(claim, CREATED, ttl=DAY)
            transaction.rollback()
        assert self.found(store, operation) is None

    def test_an_exception_leaves_nothing(self) -> None:
        """An exception frees the key at once."""
        store, operation = self.make_store(), make_operation()
        try:
            with store.transaction():
                claim = store.claim(operation)
                assert isinstance(claim, Claim)
                store.complete(claim, CREATED, ttl=DAY)
                raise LookupError
        except LookupError:
            pass
        assert self.found(store, operation) is None

    def test_an_expired_record_is_as_good_as_none(self) -> None:
        """Expiry is decided in the read; the next owner takes the key over."""
        store, operation = self.make_store(), make_operation()
        self.keep(store, operation, ttl=timedelta(0))
        assert store.recall(operation) is None
        later = Outcome(status=200, body=b"later")
        self.keep(store, operation, later)
        record = self.found(store, operation)
        assert record is not None
        assert record.outcome == later

    def test_a_purge_deletes_expired_records_in_batches(self) -> None:
        """A purge takes what has expired and leaves the rest."""
        store, live = self.make_store(), make_operation()
        for _ in range(5):
            self.keep(store, make_operation(), ttl=timedelta(0))
        self.keep(store, live)
        assert store.count_expired() == 5
        assert list(store.purge(batch_size=2)) == [2, 2, 1]
        assert store.count_expired() == 0
        assert self.found(store, live)

    def test_a_rival_is_refused_or_waits_and_never_runs_too(self) -> None:
        """While one owner runs, nobody else gets the claim; afterwards the rival finds the outcome."""
        store, operation = self.make_store(), make_operation()
        met: list[str] = []
        claimed, ended = threading.Event(), threading.Event()

        def rival() -> None:
            claimed.wait(10)
            try:
                met.append("record" if self.found(store, operation) else "claim")
            except OperationInProgress:
                met.append("in progress")
            finally:
                ended.set()
                connections.close_all()

        thread = threading.Thread(target=rival)
        thread.start()
        with store.transaction():
            claim = store.claim(operation)
            assert isinstance(claim, Claim)
            claimed.set()
            ended.wait(
                0.5
            )  # a store that refuses does so at once; one with a single writer makes the rival wait for us
            store.complete(claim, CREATED, ttl=DAY)
        thread.join(30)
        assert met in (["in progress"], ["record"])
        assert self.found(store, operation)

    def test_a_late_owner_does_not_overwrite_an_outcome(self) -> None:
        """Whoever completes second has lost its claim."""
        store, operation = self.make_store(), make_operation()
        self.keep(store, operation)
        late = Claim(operation=operation)
        try:
            with store.transaction():
                store.complete(late, Outcome(status=200, body=b"late"), ttl=DAY)
        except ClaimLost:
            record = self.found(store, operation)
            assert record is not None
            assert record.outcome == CREATED
        else:
            raise AssertionError("complete() must raise ClaimLost where a live outcome is kept")

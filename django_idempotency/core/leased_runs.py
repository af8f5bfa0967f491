"""The path from a lease to a stored outcome: begun, then settled or broken off."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from django_idempotency.core.attempts import Attempt, Execution, Raised, Run, TransactionStore, Witness, replay
from django_idempotency.core.heartbeats import heartbeats
from django_idempotency.core.leases import Held, Lease, LeaseStore, LeaseTerms, Verdict
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation, Record
from django_idempotency.exceptions import (
    FingerprintMismatch,
    LeaseLost,
    OperationInProgress,
    OutcomeUnknown,
    StoreUnavailable,
    TransactionConflict,
)

T = TypeVar("T")

logger = logging.getLogger("django_idempotency")
_TRIES = 3


class Store(TransactionStore, LeaseStore, Protocol):
    """What leased runs need of a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedRun(Generic[T]):
    """One operation under a lease. ``begin``, then either ``settle`` or ``break_off``."""

    store: Store
    operation: Operation
    terms: LeaseTerms
    ttl: timedelta
    witness: Witness | None = None

    def run(self, run: Run[T]) -> Execution[T]:
        """Run in a transaction that ends with the fenced completion, while the heart beats."""
        begun = self.begin()
        if isinstance(begun, Record):
            return replay(begun, self.operation, self.witness)
        with self.held(begun):
            return self.run_in_transaction(begun, run)

    @contextmanager
    def held(self, lease: Lease) -> Iterator[None]:
        """Keep the lease alive; break off where the block fails."""
        with heartbeats.keep(self.store, lease, self.terms):
            try:
                yield
            except BaseException as error:
                self.break_off(lease, error)
                raise

    def run_in_transaction(self, lease: Lease, run: Run[T]) -> Execution[T]:
        """Run in a transaction that ends with the fenced completion. Raises LeaseLost."""
        with self.store.transaction() as transaction:
            ended = run(lease)
            if isinstance(ended, Attempt) and ended.outcome:
                expires_at = self.store.complete(lease, ended.outcome, ttl=self.ttl)
                return Execution(answer=ended.answer, kept=ended.outcome, expires_at=expires_at)
            transaction.rollback()
        return self.settle(lease, ended.finish() if isinstance(ended, Raised) else ended)

    def begin(self) -> Lease | Record:
        """Commit a claim, or find the outcome. Raises OperationInProgress, FingerprintMismatch, OutcomeUnknown."""
        if record := self.store.recall(self.operation):
            return record
        for _ in range(_TRIES):
            found = self.store.reserve(self.operation, lease=self.terms.lease, ttl=self.ttl)
            if isinstance(found, Lease):
                return found
            if not self.operation.matches(found.fingerprint):
                raise FingerprintMismatch
            if begun := found.record or self._take_over(found):
                return begun
        raise OperationInProgress

    def settle(self, lease: Lease, attempt: Attempt[T]) -> Execution[T]:
        """Keep the outcome of a run whose transaction has ended, or let go of the operation. Raises LeaseLost."""
        if attempt.outcome:
            with self.store.transaction():
                expires_at = self.store.complete(lease, attempt.outcome, ttl=self.ttl)
            return Execution(answer=attempt.answer, kept=attempt.outcome, expires_at=expires_at)
        self.store.release(lease, unknown=lease.steps.is_ambiguous or (attempt.is_failure and self._is_unknown(lease)))
        return Execution(answer=attempt.answer)

    def break_off(self, lease: Lease, error: BaseException) -> None:
        """Let go of an operation whose run has failed; what was committed all the same stays as it is.

        Where the store itself failed, the record is left to its lease: nobody can tell what has been written.
        """
        if isinstance(error, LeaseLost):
            return
        if isinstance(error, StoreUnavailable) and not isinstance(error, TransactionConflict):
            return
        try:
            self.store.release(lease, unknown=isinstance(error, OutcomeUnknown) or self._is_unknown(lease))
        except (StoreUnavailable, OperationInProgress):  # the latter where a single writer keeps everybody out
            logger.warning("Operation %s is left to its lease: the store failed.", lease.operation.key.prefix)

    def _is_unknown(self, lease: Lease) -> bool:
        return self.terms.on_crash == "unknown" or lease.steps.is_ambiguous

    def _take_over(self, held: Held) -> Lease | Record | None:
        """Go on where somebody has left off; None if the store has changed its mind about that."""
        if held.status == "unknown":
            return self._reconcile(held)
        if held.status == "in_progress" and not held.has_lapsed:
            raise OperationInProgress
        lease = self.store.take_over(self.operation, held, lease=self.terms.lease)
        if lease and held.status == "released":
            lease.steps.rely()  # an earlier attempt may have handed out derived keys
            return lease
        if lease is None:
            return None
        if not self._is_unknown(lease):
            if self.witness:
                self.witness.taken_over(lease)
            return lease
        self.store.release(lease, unknown=True)
        return None

    def _reconcile(self, held: Held) -> Lease | Record | None:
        if self.terms.reconcile is None:
            raise OutcomeUnknown
        lease = self.store.take_over(self.operation, held, lease=self.terms.lease)
        if lease is None:
            return None
        with heartbeats.keep(self.store, lease, self.terms):
            try:
                return self._conclude(lease, self.terms.reconcile(lease))
            except BaseException:
                self.store.release(lease, unknown=True)
                raise

    def _conclude(self, lease: Lease, verdict: Verdict) -> Lease | Record:
        if verdict == "not_done":
            lease.steps.forget_unfinished()
            return lease
        if verdict is None:
            raise OutcomeUnknown
        assert isinstance(verdict, Outcome)
        with self.store.transaction():
            expires_at = self.store.complete(lease, verdict, ttl=self.ttl)
        return Record(fingerprint=lease.fingerprint, outcome=verdict, expires_at=expires_at)

"""The one path from a claim to a stored outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Generic, TypeVar

from django_idempotency.core.attempts import Attempt, Execution, Raised, Run, Witness, replay
from django_idempotency.core.leased_runs import LeasedRun, Store
from django_idempotency.core.leases import LeaseTerms
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import ClaimLost, FingerprintMismatch, OperationInProgress, TransactionConflict

T = TypeVar("T")

# A rival whose locks are being released one after the other can look like a different request for an instant.
_SIGHTINGS_OF_A_MISMATCH = 3
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25


class WaitingRoom:
    """Lets a bounded number of threads wait for an operation in flight."""

    def __init__(self, seats: int) -> None:
        self._seats = BoundedSemaphore(seats) if seats else None

    @contextmanager
    def seat(self) -> Iterator[bool]:
        """Yield whether there is room to wait."""
        taken = self._seats is not None and self._seats.acquire(blocking=False)
        try:
            yield taken
        finally:
            if taken and self._seats is not None:
                self._seats.release()


def execute(
    store: Store,
    operation: Operation,
    run: Run[T],
    *,
    ttl: timedelta,
    wait: timedelta = timedelta(0),
    waiting_room: WaitingRoom | None = None,
    conflict_retries: int = 0,
    lease: LeaseTerms | None = None,
    witness: Witness | None = None,
) -> Execution[T]:
    """Run an operation once, or replay what it came to.

    With a ``lease`` the claim is committed first and held under these terms; else it commits with the effects.
    ``run`` is called inside the store's transaction, never where a live record exists, and again only after its effects
    were rolled back: for each conflict retry, or once if a rival completed and its record has gone since. ``witness``
    is told of outcomes and takeovers.
    Raises OperationInProgress, FingerprintMismatch, OutcomeNotReplayable, OutcomeUnknown, LeaseLost, StoreUnavailable
    and whatever ``run`` raises.
    """

    def attempt() -> Execution[T]:
        if lease:
            leased: LeasedRun[T] = LeasedRun(store=store, operation=operation, terms=lease, ttl=ttl, witness=witness)
            return leased.run(run)
        unleased: _Run[T] = _Run(store=store, operation=operation, run=run, ttl=ttl, witness=witness)
        return _claim_and_run(unleased, conflict_retries)

    try:
        return attempt()
    except OperationInProgress:
        if not wait or waiting_room is None:
            raise
        with waiting_room.seat() as seated:
            if not seated:
                raise
            return _wait(store, attempt, wait)


def _wait(store: Store, attempt: Callable[[], Execution[T]], wait: timedelta) -> Execution[T]:
    deadline = time.monotonic() + wait.total_seconds()
    pause = _SHORTEST_PAUSE
    while True:
        store.rest()
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        try:
            return attempt()
        except OperationInProgress:
            if time.monotonic() >= deadline:
                raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run(Generic[T]):
    """One operation whose claim commits with its effects."""

    store: Store
    operation: Operation
    run: Run[T]
    ttl: timedelta
    witness: Witness | None

    def attempt(self) -> Execution[T]:
        """Try once. Raises ClaimLost where a rival has completed meanwhile."""
        store = self.store
        if record := store.recall(self.operation):
            return self._replay(record)
        with store.transaction() as transaction:
            found = store.claim(self.operation)
            if isinstance(found, Record):
                return self._replay(found)
            ended = self.run(found)
            if isinstance(ended, Attempt) and ended.outcome:
                return self._keep(found, ended.answer, ended.outcome)
            transaction.rollback()
        attempt = ended.finish() if isinstance(ended, Raised) else ended
        if attempt.outcome:
            return self._keep_after_rollback(found, attempt.answer, attempt.outcome)
        return Execution(answer=attempt.answer)

    def _replay(self, record: Record) -> Execution[T]:
        return replay(record, self.operation, self.witness)

    def _keep(self, claim: Claim, answer: T, outcome: Outcome) -> Execution[T]:
        expires_at = self.store.complete(claim, outcome, ttl=self.ttl, last=True)
        return Execution(answer=answer, kept=outcome, expires_at=expires_at)

    def _keep_after_rollback(self, claim: Claim, answer: T, outcome: Outcome) -> Execution[T]:
        """Record an answer whose effects are gone; where a rival has got in between, its outcome is the answer."""
        with self.store.transaction():
            found = self.store.claim(self.operation)
            if isinstance(found, Record):
                return self._replay(found)
            return self._keep(claim, answer, outcome)


def _claim_and_run(run: _Run[T], conflict_retries: int) -> Execution[T]:
    lost = conflicts = sightings = 0
    while True:
        try:
            return run.attempt()
        except ClaimLost as error:
            lost += 1
            if lost > 1:
                raise OperationInProgress from error
        except TransactionConflict:
            conflicts += 1
            if conflicts > conflict_retries:
                raise
        except OperationInProgress as error:
            if error.same_request:
                raise
            sightings += 1
            if sightings == _SIGHTINGS_OF_A_MISMATCH:
                raise FingerprintMismatch from error
            time.sleep(_SHORTEST_PAUSE)

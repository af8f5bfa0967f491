"""The one path from a claim to a stored outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import BoundedSemaphore
from typing import TypeVar

from django_idempotency.core.attempts import Attempt, Execution, Raised, Run, replay
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
) -> Execution[T]:
    """Run an operation once, or replay what it came to.

    With a ``lease`` the claim is committed first and held under these terms; else it commits with the effects.
    ``run`` is called inside the store's transaction, never where a live record exists, and again only after its effects
    were rolled back: for each conflict retry, or once if a rival completed and its record has gone since.
    Raises OperationInProgress, FingerprintMismatch, OutcomeNotReplayable, OutcomeUnknown, LeaseLost, StoreUnavailable
    and whatever ``run`` raises.
    """

    def attempt() -> Execution[T]:
        if lease:
            leased: LeasedRun[T] = LeasedRun(store=store, operation=operation, terms=lease, ttl=ttl)
            return leased.run(run)
        return _claim_and_run(store, operation, run, ttl, conflict_retries)

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


def _claim_and_run(
    store: Store,
    operation: Operation,
    run: Run[T],
    ttl: timedelta,
    conflict_retries: int,
) -> Execution[T]:
    lost = conflicts = sightings = 0
    while True:
        try:
            return _attempt(store, operation, run, ttl)
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


def _attempt(store: Store, operation: Operation, run: Run[T], ttl: timedelta) -> Execution[T]:
    if record := store.recall(operation):
        return replay(record, operation)
    with store.transaction() as transaction:
        found = store.claim(operation)
        if isinstance(found, Record):
            return replay(found, operation)
        ended = run(found)
        if isinstance(ended, Attempt) and ended.outcome:
            expires_at = store.complete(found, ended.outcome, ttl=ttl, last=True)
            return Execution(answer=ended.answer, expires_at=expires_at)
        transaction.rollback()
    attempt = ended.finish() if isinstance(ended, Raised) else ended
    if attempt.outcome:
        return _keep_after_rollback(store, found, attempt.answer, attempt.outcome, ttl)
    return Execution(answer=attempt.answer)


def _keep_after_rollback(store: Store, claim: Claim, answer: T, outcome: Outcome, ttl: timedelta) -> Execution[T]:
    """Record an answer whose effects are gone; where a rival has got in between, its outcome is the answer."""
    with store.transaction():
        found = store.claim(claim.operation)
        if isinstance(found, Record):
            return replay(found, claim.operation)
        return Execution(answer=answer, expires_at=store.complete(claim, outcome, ttl=ttl, last=True))

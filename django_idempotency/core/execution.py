"""The one path from a claim to a stored outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import BoundedSemaphore
from typing import Generic, Protocol, TypeVar

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import (
    ClaimLost,
    FingerprintMismatch,
    OperationInProgress,
    OutcomeNotReplayable,
    TransactionConflict,
)

T = TypeVar("T")

# A rival whose locks are being released one after the other can look like a different request for an instant.
_SIGHTINGS_OF_A_MISMATCH = 3
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25


class Transaction(Protocol):
    """What the effects and the outcome commit in, together."""

    def rollback(self) -> None:
        """Undo everything when the transaction ends, without an exception."""


class Store(Protocol):
    """What the engine needs of a store."""

    def recall(self, operation: Operation) -> Record | None:
        """Return a live record if that can be told outside a transaction, for less than a claim."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open the transaction of one attempt. Raises StoreUnavailable, TransactionConflict."""

    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run, or return the live record. Raises OperationInProgress."""

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta) -> datetime:
        """Keep the outcome within the open transaction and return its expiry. Raises ClaimLost."""

    def rest(self) -> None:
        """Give back what a waiting thread would hold for nothing, such as a pooled connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Generic[T]):
    """How one run ended: what the caller gets, and what to keep. Without an outcome everything is rolled back."""

    answer: T
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Raised(Generic[T]):
    """A run whose effects are rolled back first; ``finish`` then tells the answer and what to keep all the same."""

    finish: Callable[[], Attempt[T]]


Run = Callable[[Claim], Attempt[T] | Raised[T]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution(Generic[T]):
    """What came of an operation: the answer of the run that happened now, or the outcome of an earlier one."""

    answer: T | None = None
    replayed: Outcome | None = None
    expires_at: datetime | None = None


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
) -> Execution[T]:
    """Run an operation once, or replay what it came to.

    ``run`` is called inside the store's transaction, never where a live record exists, and again only after its effects
    were rolled back: for each conflict retry, or once if a rival completed and its record has gone since.
    Raises OperationInProgress, FingerprintMismatch, OutcomeNotReplayable, StoreUnavailable and whatever ``run`` raises.
    """
    if record := store.recall(operation):
        return _replay(record, operation)
    try:
        return _claim_and_run(store, operation, run, ttl, conflict_retries)
    except OperationInProgress:
        if not wait or waiting_room is None:
            raise
        with waiting_room.seat() as seated:
            if not seated:
                raise
            return _wait(store, operation, run, ttl, conflict_retries, wait)


def _wait(
    store: Store,
    operation: Operation,
    run: Run[T],
    ttl: timedelta,
    conflict_retries: int,
    wait: timedelta,
) -> Execution[T]:
    deadline = time.monotonic() + wait.total_seconds()
    pause = _SHORTEST_PAUSE
    while True:
        store.rest()
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        try:
            return _claim_and_run(store, operation, run, ttl, conflict_retries)
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
    with store.transaction() as transaction:
        found = store.claim(operation)
        if isinstance(found, Record):
            return _replay(found, operation)
        ended = run(found)
        if isinstance(ended, Attempt) and ended.outcome:
            expires_at = store.complete(found, ended.outcome, ttl=ttl)
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
            return _replay(found, claim.operation)
        return Execution(answer=answer, expires_at=store.complete(claim, outcome, ttl=ttl))


def _replay(record: Record, operation: Operation) -> Execution[T]:
    if not operation.matches(record.fingerprint):
        raise FingerprintMismatch
    if record.outcome.body is None:
        raise OutcomeNotReplayable(headers=record.outcome.headers)
    return Execution(replayed=record.outcome, expires_at=record.expires_at)

"""What stores and runs look like to the engine, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import FingerprintMismatch, OutcomeNotReplayable

T = TypeVar("T")


class Transaction(Protocol):
    """What the effects and the outcome commit in, together."""

    def rollback(self) -> None:
        """Undo everything when the transaction ends, without an exception."""


class TransactionStore(Protocol):
    """What the engine needs of a store to commit effects and outcome together."""

    def recall(self, operation: Operation) -> Record | None:
        """Return a live record if that can be told outside a transaction, for less than a claim."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open the transaction of one attempt. Raises StoreUnavailable, TransactionConflict."""

    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run, or return the live record. Raises OperationInProgress."""

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False) -> datetime:
        """Keep the outcome within the open transaction and return its expiry. Raises ClaimLost, LeaseLost.

        After the ``last`` statement of a transaction nothing follows, so that it may be committed at once.
        """

    def rest(self) -> None:
        """Give back what a waiting thread would hold for nothing, such as a pooled connection."""


class Witness(Protocol):
    """Who is told what the engine has found, as soon as it has."""

    def found(self, outcome: Outcome) -> None:
        """Hear of an outcome before it is replayed, in the transaction that has found it; raise to refuse that."""

    def taken_over(self, claim: Claim) -> None:
        """Hear of a claim that was committed in the place of one that never came to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Generic[T]):
    """How one run ended: what the caller gets, and what to keep. Without an outcome everything is rolled back.

    ``is_failure`` says that it broke off in the middle, so that nobody knows what it has done elsewhere.
    """

    answer: T
    outcome: Outcome | None = None
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class Raised(Generic[T]):
    """A run whose effects are rolled back first; ``finish`` then tells the answer and what to keep all the same."""

    finish: Callable[[], Attempt[T]]


Run = Callable[[Claim], Attempt[T] | Raised[T]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution(Generic[T]):
    """What came of an operation: the answer of the run that happened now, or the outcome of an earlier one.

    ``kept`` is what was kept of the run that happened now, ``replayed`` what was kept of an earlier one.
    """

    answer: T | None = None
    kept: Outcome | None = None
    replayed: Outcome | None = None
    expires_at: datetime | None = None


def replay(record: Record, operation: Operation, witness: Witness | None = None) -> Execution[T]:
    """Return the outcome of a record to the same request. Raises FingerprintMismatch, OutcomeNotReplayable."""
    if not operation.matches(record.fingerprint):
        raise FingerprintMismatch
    if record.outcome.body is None:
        raise OutcomeNotReplayable(headers=record.outcome.headers)
    if witness:
        witness.found(record.outcome)
    return Execution(replayed=record.outcome, expires_at=record.expires_at)

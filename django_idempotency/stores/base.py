"""The interface of a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import ClassVar

from django.core.checks import CheckMessage

from django_idempotency.core.attempts import Transaction
from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.core.steps import Steps
from django_idempotency.core.tallies import Tallies


class Store(ABC):
    """Keeps the records of operations. Subclasses take the OPTIONS of ``IDEMPOTENCY_STORES`` as keyword arguments.

    ``alias`` is the database alias whose transaction this store's transaction is, None where there is none.
    ``recalls_ahead`` says that ``recall`` may spare a look that ``reserve`` would take.
    """

    recalls_ahead: ClassVar[bool] = True

    @property
    def alias(self) -> str | None:
        """The database alias that effects must use to commit with their outcome."""
        return None

    def recall(self, operation: Operation) -> Record | None:
        """Return a live record if that can be told outside a transaction, for less than a claim."""
        return None

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open the transaction of one attempt: its effects and outcome commit together.

        Raises StoreUnavailable where it cannot be opened or committed, TransactionConflict for a serialization failure
        or a deadlock, OperationInProgress where the database lets in one writer at a time and another stays too long.
        """

    @abstractmethod
    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run within the open transaction, or return the live record.

        Raises OperationInProgress, and OutcomeUnknown where a lease on this operation has broken off.
        """

    @abstractmethod
    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False) -> datetime:
        """Keep the outcome within the open transaction; return its expiry.

        After the ``last`` statement of a transaction nothing follows, so that it may be committed at once.
        Raises ClaimLost if a rival has completed, LeaseLost if the claim is a lease that is no longer held.
        """

    @abstractmethod
    def reserve(self, operation: Operation, *, lease: timedelta, ttl: timedelta) -> Lease | Held:
        """Commit a claim where nothing live is known of the operation; else tell what is.

        A completed record is live until it expires, any other one for ever. Raises RuntimeError within a transaction.
        """

    @abstractmethod
    def take_over(self, operation: Operation, held: Held, *, lease: timedelta) -> Lease | None:
        """Commit a claim in the place of what was seen, None if that has changed or its lease has not ended.

        The claim goes on after the steps that are there by now, which may be more than were seen.
        """

    @abstractmethod
    def renew(self, held: Lease, *, lease: timedelta) -> bool:
        """Move the deadline to this long from now; tell whether the lease was still held."""

    def suspended(self) -> AbstractContextManager[None]:
        """Let go, for the time of an outside call, of what an open transaction keeps others from."""
        return nullcontext()

    @abstractmethod
    def write_steps(self, lease: Lease, steps: Steps, *, in_transaction: bool = False) -> None:
        """Commit steps at once, whatever transaction is open, or within that. Raises LeaseLost, StoreUnavailable."""

    @abstractmethod
    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is still held: as of unknown outcome, or free, keeping the steps if there are any."""

    def has_tallied(self, operation: Operation, outcome: str) -> bool:
        """Tell whether the answer to this request is counted already, and take back any other count of it."""
        return False

    def drain(self) -> Iterator[Tallies]:
        """Yield what was counted since the last time; each is forgotten once the next is asked for."""
        return iter(())

    def close(self) -> None:  # noqa: B027 - most stores hold nothing
        """Close what the calling thread holds open."""

    def forget(self, digest: bytes) -> bool:
        """Drop copies of what was changed or erased, once that is committed; tell whether none is left."""
        return True

    def rest(self) -> None:  # noqa: B027 - most stores hold nothing
        """Give back what a waiting thread would hold for nothing, such as a pooled connection."""

    @abstractmethod
    def count_expired(self) -> int:
        """Return how many records ``purge`` would delete now."""

    @abstractmethod
    def purge(self, *, batch_size: int) -> Iterator[int]:
        """Delete expired records in batches; yield the size of each until none is left."""

    def check(self) -> list[CheckMessage]:
        """Return messages for Django's system checks."""
        return []

"""The interface of a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from django.core.checks import CheckMessage

from django_idempotency.core.execution import Transaction
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record


class Store(ABC):
    """Keeps the records of operations. Subclasses take the OPTIONS of ``IDEMPOTENCY_STORES`` as keyword arguments.

    ``alias`` is the database alias whose transaction this store's transaction is, None where there is none.
    """

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
        """Win the right to run within the open transaction, or return the live record. Raises OperationInProgress."""

    @abstractmethod
    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta) -> datetime:
        """Keep the outcome within the open transaction; return its expiry. Raises ClaimLost if a rival completed."""

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

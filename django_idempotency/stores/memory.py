"""A store in the memory of one process: the reference for the others, and for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock, local

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import ClaimLost, OperationInProgress
from django_idempotency.stores.base import Store


@dataclass
class MemoryTransaction:
    """Collects what is kept until the transaction commits."""

    claimed: set[bytes] = field(default_factory=set)
    completed: dict[bytes, Record] = field(default_factory=dict)

    def rollback(self) -> None:
        """Forget what was to be kept."""
        self.completed.clear()


class MemoryStore(Store):
    """Keeps records in a dict. Effects elsewhere do not commit with it: a crash can leave one without the other."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._records: dict[bytes, Record] = {}
        self._in_flight: dict[bytes, Operation] = {}
        self._local = local()

    def recall(self, operation: Operation) -> Record | None:
        """Return the live record, if there is one."""
        with self._lock:
            return self._live(operation.key.digest)

    @contextmanager
    def transaction(self) -> Iterator[MemoryTransaction]:
        """Open a transaction; one that is opened inside another commits by itself."""
        transaction = MemoryTransaction()
        outer = getattr(self._local, "transaction", None)
        self._local.transaction = transaction
        try:
            yield transaction
        except BaseException:
            transaction.rollback()
            raise
        finally:
            self._local.transaction = outer
            with self._lock:
                self._records.update(transaction.completed)
                for digest in transaction.claimed:
                    self._in_flight.pop(digest, None)

    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run, or return the live record. Raises OperationInProgress."""
        digest = operation.key.digest
        with self._lock:
            if record := self._live(digest):
                return record
            if rival := self._in_flight.get(digest):
                raise OperationInProgress(same_request=rival.content_digest == operation.content_digest)
            self._transaction.claimed.add(digest)
            self._in_flight[digest] = operation
        return Claim(operation=operation)

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta) -> datetime:
        """Keep the outcome when the transaction commits; return when it expires."""
        operation = claim.operation
        expires_at = datetime.now(UTC) + ttl
        with self._lock:
            if self._live(operation.key.digest):
                raise ClaimLost
        self._transaction.completed[operation.key.digest] = Record(
            fingerprint=operation.fingerprint, outcome=outcome, expires_at=expires_at
        )
        return expires_at

    def count_expired(self) -> int:
        """Return how many records have expired."""
        with self._lock:
            return len(self._expired())

    def purge(self, *, batch_size: int) -> Iterator[int]:
        """Delete expired records in batches."""
        while True:
            with self._lock:
                batch = self._expired()[:batch_size]
                for digest in batch:
                    del self._records[digest]
            if not batch:
                return
            yield len(batch)

    def _live(self, digest: bytes) -> Record | None:
        record = self._records.get(digest)
        return record if record and record.expires_at > datetime.now(UTC) else None

    def _expired(self) -> list[bytes]:
        now = datetime.now(UTC)
        return [digest for digest, record in self._records.items() if record.expires_at <= now]

    @property
    def _transaction(self) -> MemoryTransaction:
        transaction = getattr(self._local, "transaction", None)
        if not isinstance(transaction, MemoryTransaction):
            raise RuntimeError("claim() and complete() need an open transaction().")
        return transaction

"""A store in the memory of one process: the reference for the others, and for tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock, local
from uuid import UUID, uuid4

from django_idempotency.core.fingerprints import Fingerprint
from django_idempotency.core.leases import Held, HeldStatus, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import ClaimLost, LeaseLost, OperationInProgress
from django_idempotency.stores.base import Store


@dataclass
class MemoryTransaction:
    """Collects what is kept until the transaction commits."""

    claimed: set[bytes] = field(default_factory=set)
    completed: dict[bytes, tuple[Claim, Record]] = field(default_factory=dict)

    def rollback(self) -> None:
        """Forget what was to be kept."""
        self.completed.clear()


@dataclass
class Holding:
    """What is known of an operation under a lease; the deadline is on the monotonic clock."""

    fingerprint: Fingerprint
    deadline: float
    owner: UUID = field(default_factory=uuid4)
    status: HeldStatus = "in_progress"
    attempt: int = 1
    steps: str = "[]"

    @property
    def has_lapsed(self) -> bool:
        """Whether the deadline has passed of what somebody works on."""
        return self.status == "in_progress" and self.deadline <= time.monotonic()

    def seen(self) -> Held:
        """Return what others see of it."""
        return Held(
            status=self.status,
            fingerprint=self.fingerprint,
            owner=self.owner,
            attempt=self.attempt,
            has_lapsed=self.has_lapsed,
            steps=Steps.decode(self.steps),
        )


class MemoryStore(Store):
    """Keeps records in a dict. Effects elsewhere do not commit with it: a crash can leave one without the other."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._records: dict[bytes, Record] = {}
        self._in_flight: dict[bytes, Operation] = {}
        self._held: dict[bytes, Holding] = {}
        self._local = local()

    def recall(self, operation: Operation) -> Record | None:
        """Return the live record, if there is one."""
        with self._lock:
            return self._live(operation.key.digest)

    @contextmanager
    def transaction(self) -> Iterator[MemoryTransaction]:
        """Open a transaction; one that is opened inside another commits by itself. Raises ClaimLost, LeaseLost."""
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
                for digest in transaction.claimed:
                    self._in_flight.pop(digest, None)
                self._commit(transaction)

    def _commit(self, transaction: MemoryTransaction) -> None:
        """Keep what is completed, all or nothing: whoever came in between has the key. Raises ClaimLost, LeaseLost."""
        for claim, _ in transaction.completed.values():
            self._check(claim)
        for digest, (_, record) in transaction.completed.items():
            self._held.pop(digest, None)
            self._records[digest] = record

    def _check(self, claim: Claim) -> None:
        """Raise ClaimLost or LeaseLost where a claim may not be completed any more."""
        digest = claim.operation.key.digest
        if isinstance(claim, Lease):
            self._holding(claim)
        elif digest in self._held or self._live(digest):
            raise ClaimLost

    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run, or return the live record. Raises OperationInProgress."""
        digest = operation.key.digest
        with self._lock:
            if record := self._live(digest):
                return record
            if holding := self._held.get(digest):
                holding.seen().refuse(operation)
            if rival := self._in_flight.get(digest):
                raise OperationInProgress(same_request=rival.content_digest == operation.content_digest)
            self._transaction.claimed.add(digest)
            self._in_flight[digest] = operation
        return Claim(operation=operation)

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False) -> datetime:
        """Keep the outcome when the transaction commits; return when it expires. Raises ClaimLost, LeaseLost."""
        expires_at = datetime.now(UTC) + ttl
        with self._lock:
            self._check(claim)
        fingerprint = claim.fingerprint if isinstance(claim, Lease) else claim.operation.fingerprint
        record = Record(fingerprint=fingerprint, outcome=outcome, expires_at=expires_at)
        self._transaction.completed[claim.operation.key.digest] = claim, record
        return expires_at

    def reserve(self, operation: Operation, *, lease: timedelta, ttl: timedelta) -> Lease | Held:
        """Hold the operation where nothing live is known of it; else tell what is."""
        digest = operation.key.digest
        with self._lock:
            if record := self._live(digest):
                return Held(
                    status="completed",
                    fingerprint=record.fingerprint,
                    owner=None,
                    attempt=1,
                    has_lapsed=False,
                    steps=Steps(),
                    record=record,
                )
            if holding := self._held.get(digest):
                return holding.seen()
            holding = Holding(fingerprint=operation.fingerprint, deadline=time.monotonic() + lease.total_seconds())
            self._held[digest] = holding
            self._records.pop(digest, None)  # which has expired
            return self._lease(operation, holding)

    def take_over(self, operation: Operation, held: Held, *, lease: timedelta) -> Lease | None:
        """Change the owner of what is still as it was seen."""
        with self._lock:
            holding = self._held.get(operation.key.digest)
            seen = (held.owner, held.attempt, held.status)
            if holding is None or (holding.owner, holding.attempt, holding.status) != seen:
                return None
            if holding.status == "in_progress" and not holding.has_lapsed:
                return None
            holding.owner, holding.status = uuid4(), "in_progress"
            holding.attempt += 1
            holding.deadline = time.monotonic() + lease.total_seconds()
            return self._lease(operation, holding)

    def renew(self, held: Lease, *, lease: timedelta) -> bool:
        """Move the deadline; tell whether the lease was still held."""
        with self._lock:
            try:
                self._holding(held).deadline = time.monotonic() + lease.total_seconds()
            except LeaseLost:
                return False
            return True

    def write_steps(self, lease: Lease, steps: Steps, *, in_transaction: bool = False) -> None:
        """Keep steps at once. Raises LeaseLost."""
        with self._lock:
            self._holding(lease).steps = steps.encode()

    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is still held."""
        with self._lock, suppress(LeaseLost):
            holding = self._holding(lease)
            if unknown or lease.steps:
                holding.status, holding.steps = "unknown" if unknown else "released", lease.steps.encode()
            else:
                del self._held[lease.operation.key.digest]

    def _holding(self, lease: Lease) -> Holding:
        holding = self._held.get(lease.operation.key.digest)
        if holding is None or holding.owner != lease.owner or holding.status != "in_progress":
            raise LeaseLost
        return holding

    def _lease(self, operation: Operation, holding: Holding) -> Lease:
        return Lease(
            operation=operation,
            attempt=holding.attempt,
            owner=holding.owner,
            fingerprint=holding.fingerprint,
            steps=Steps.decode(holding.steps),
            store=self,
        )

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

"""Redis in front of the database: completed outcomes are replayed from there, and storms are turned away."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import local
from types import TracebackType

from django.db import transaction

from django_idempotency.core.fingerprints import UnknownFingerprint
from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import FingerprintMismatch, OperationInProgress
from django_idempotency.stores.connections import RedisConnection, RedisUnavailable
from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
from django_idempotency.stores.encoding import Mark, decode, encode_mark, encode_record

_LOOK_OR_MARK = """
local found = redis.call('GET', KEYS[1])
if found then return found end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
_UNMARK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# A record that is found in the database is copied for no longer than this: its expiry is on the database's clock.
_COPIED_FOR = timedelta(minutes=1)


class CachedDatabaseStore(DatabaseStore):
    """Keeps records in the database, and copies of their outcomes in Redis.

    The database alone decides. Redis answers what it knows for certain: an outcome that was committed, or that the same
    key was begun a moment ago. Whatever happens to it, FLUSHALL included, costs speed and nothing else.

    ``cache`` is the alias of a django-redis cache; ``in_flight`` is how long a mark turns duplicates away before one of
    them may ask the database; ``prefix`` stands before every key.
    """

    def __init__(
        self,
        *,
        cache: str = "default",
        using: str | None = None,
        in_flight: timedelta = timedelta(seconds=1),
        prefix: str = "idempotency:",
    ) -> None:
        super().__init__(using=using)
        self.cache = cache
        self.redis = RedisConnection(cache)
        self._in_flight = int(in_flight.total_seconds() * 1000)
        self._prefix = prefix
        self._local = local()

    def recall(self, operation: Operation) -> Record | None:
        """Return the outcome that Redis knows, or leave a mark. Raises OperationInProgress, FingerprintMismatch."""
        mark = encode_mark(Mark(fingerprint=operation.fingerprint, token=os.urandom(8)))
        with suppress(RedisUnavailable):
            found = self.redis.run(_LOOK_OR_MARK, self._key(operation), mark, self._in_flight)
            if found is None:
                self._marks[operation.key.digest] = mark
            elif found != self._marks.get(operation.key.digest):
                return self._judge(operation, decode(found)) or super().recall(operation)
        return super().recall(operation)

    def _judge(self, operation: Operation, found: Record | Mark | None) -> Record | None:
        if not isinstance(found, Mark):
            return found
        try:
            is_same = operation.keyring.verify(found.fingerprint, operation.content_digest)
        except UnknownFingerprint:
            return None  # marked by a process with other secrets: the database decides
        if not is_same:
            raise FingerprintMismatch
        raise OperationInProgress

    def transaction(self) -> CachedTransaction:
        """Open ``atomic()``; what was completed in it goes to Redis after the commit."""
        return CachedTransaction(self)

    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run, or return the live record. Raises OperationInProgress, StoreUnavailable."""
        try:
            claimed = super().claim(operation)
        except OperationInProgress:
            self.unmark(operation, only_forget=True)  # let it turn others away for a while
            raise
        if isinstance(claimed, Record):
            self._copy_found(operation, claimed)
        else:
            self._note(operation, None)
        return claimed

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta) -> datetime:
        """Keep the outcome in the open transaction. Raises ClaimLost, LeaseLost, StoreUnavailable."""
        expires_at = super().complete(claim, outcome, ttl=ttl)
        fingerprint = claim.fingerprint if isinstance(claim, Lease) else claim.operation.fingerprint
        record = Record(fingerprint=fingerprint, outcome=outcome, expires_at=expires_at)
        self._note(claim.operation, Copy(key=self._key(claim.operation), record=record, lifetime=ttl))
        return expires_at

    def reserve(self, operation: Operation, *, lease: timedelta, ttl: timedelta) -> Lease | Held:
        """Commit a claim, or tell what is live. Raises StoreUnavailable, RuntimeError within a transaction."""
        reserved = super().reserve(operation, lease=lease, ttl=ttl)
        if isinstance(reserved, Held):
            if reserved.record:
                self._copy_found(operation, reserved.record)
            self.unmark(operation, only_forget=True)
        return reserved

    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is still held. Raises StoreUnavailable."""
        super().release(lease, unknown=unknown)
        self.unmark(lease.operation)

    def forget(self, operation: Operation) -> None:
        """Drop what Redis knows of an operation."""
        with suppress(RedisUnavailable):
            self.redis.delete(self._key(operation))

    def write(self, copy: Copy) -> None:
        """Write a committed outcome to Redis, if that can be reached."""
        with suppress(RedisUnavailable):
            self.redis.set(copy.key, encode_record(copy.record), int(copy.lifetime.total_seconds() * 1000))

    def unmark(self, operation: Operation, *, only_forget: bool = False) -> None:
        """Take back the mark of this thread, so that the next request may ask the database at once."""
        mark = self._marks.pop(operation.key.digest, None)
        if mark and not only_forget:
            with suppress(RedisUnavailable):
                self.redis.run(_UNMARK, self._key(operation), mark)

    def _copy_found(self, operation: Operation, record: Record) -> None:
        lifetime = min(record.expires_at - datetime.now(UTC), _COPIED_FOR)
        if lifetime > timedelta(0):
            self.write(Copy(key=self._key(operation), record=record, lifetime=lifetime))
        self.unmark(operation, only_forget=True)

    def _note(self, operation: Operation, copy: Copy | None) -> None:
        opened: list[CachedTransaction] = self.opened
        if opened:
            opened[-1].copies[operation.key.digest] = (operation, copy)

    def _key(self, operation: Operation) -> str:
        secret_id = operation.keyring.secrets[0][0]
        return self._prefix + operation.keyring.derive(secret_id, b"redis key" + operation.key.digest).hex()

    @property
    def _marks(self) -> dict[bytes, bytes]:
        """The marks that this thread has left, by the digest of the key."""
        return self._local.__dict__.setdefault("marks", {})  # type: ignore[no-any-return]

    @property
    def opened(self) -> list[CachedTransaction]:
        """The transactions that this thread has opened, the innermost last."""
        return self._local.__dict__.setdefault("opened", [])  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What goes to Redis once it is committed."""

    key: str
    record: Record = field(repr=False)
    lifetime: timedelta


class CachedTransaction(DatabaseTransaction):
    """A transaction whose outcomes are copied after its commit; if nothing came of it, its marks are taken back."""

    def __init__(self, store: CachedDatabaseStore) -> None:
        super().__init__(store.alias)
        self._store = store
        self.copies: dict[bytes, tuple[Operation, Copy | None]] = {}

    def __enter__(self) -> CachedTransaction:
        super().__enter__()
        self._store.opened.append(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._store.opened.remove(self)
        is_committed = False
        try:
            super().__exit__(exc_type, exc, traceback)
            is_committed = exc is None and not self.is_rolled_back
        finally:
            for operation, copy in self.copies.values():
                self._conclude(operation, copy if is_committed else None)

    def _conclude(self, operation: Operation, copy: Copy | None) -> None:
        self._store.unmark(operation, only_forget=copy is not None)
        if copy:
            # At once, unless a transaction is open around this one.
            transaction.on_commit(partial(self._store.write, copy), using=self._alias, robust=True)

"""Redis in front of the database: completed outcomes are replayed from there, and storms are turned away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import local
from types import TracebackType
from typing import cast

from django.core import checks
from django.db import connections, transaction

from django_idempotency.conf import settings
from django_idempotency.core.fingerprints import Keyring, UnknownFingerprint
from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.core.tallies import Tallies, tallied_facts
from django_idempotency.exceptions import OperationInProgress
from django_idempotency.stores.caches import check_cache
from django_idempotency.stores.companions import Companion, Part
from django_idempotency.stores.connections import RedisConnection, RedisUnavailable
from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
from django_idempotency.stores.encoding import (
    MARK_PREFIX,
    Mark,
    Seal,
    decode,
    encode_fingerprint,
    encode_mark,
    encode_record,
    seal_of,
)
from django_idempotency.stores.tallies import LOOK_OR_MARK, TallyBook

# Whoever left the mark: it spoke of a claim that has ended.
_UNMARK = """
local found = redis.call('GET', KEYS[1])
if found and string.sub(found, 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# A record that is found in the database is copied for no longer than this: its expiry is on the database's clock.
_COPIED_FOR = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What goes to Redis once it is committed, and until when it is true, in seconds of the monotonic clock."""

    record: Record = field(repr=False)
    until: float

    @classmethod
    def of(cls, record: Record) -> Copy:
        """Make the copy of a record that was found."""
        lifetime = min(record.expires_at - datetime.now(UTC), _COPIED_FOR)
        return cls(record=record, until=time.monotonic() + lifetime.total_seconds())


class CachedDatabaseStore(DatabaseStore):
    """Keeps records in the database, and copies of their outcomes in Redis.

    The database alone decides. Redis answers what it knows for certain: an outcome that was committed, or that the same
    request was begun a moment ago. Whatever happens to it, FLUSHALL included, costs speed and nothing else.

    ``cache`` is the alias of a django-redis cache; ``in_flight`` is how long a mark turns duplicates away before one of
    them may ask the database; ``prefix`` stands before every key.
    """

    recalls_ahead = True

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
        self._tallies = TallyBook(self.redis, prefix)
        self._thread = _Thread()

    def recall(self, operation: Operation) -> Record | None:
        """Return the outcome that Redis knows, or leave a mark. Raises OperationInProgress."""
        self._thread.marked = None
        seal = seal_of(operation)
        with suppress(RedisUnavailable):
            found = self._look_or_mark(operation, seal)
            if found is None:
                self._thread.marked = operation
            elif record := self._judge(operation, decode(found, seal)):
                return record
        with self.deciding():
            recalled = super().recall(operation)
        if recalled:
            self.keep(operation, Copy.of(recalled))
        return recalled

    def _look_or_mark(self, operation: Operation, seal: Seal) -> bytes | None:
        key, fingerprint = self._key(operation), operation.fingerprint
        mark, facts = encode_mark(Mark(fingerprint=fingerprint), seal), tallied_facts(operation, time.time())
        arguments = mark, self._in_flight, encode_fingerprint(fingerprint), facts
        found, outcome = self.redis.run(LOOK_OR_MARK, key, *arguments, beside=(self._tallies.beside(key),))
        if outcome:
            operation.tallied.append(outcome.decode())
        return cast("bytes | None", found)

    def has_tallied(self, operation: Operation, outcome: str) -> bool:
        """Tell whether Redis has counted this answer; what it has counted beside is taken back."""
        counted = outcome in operation.tallied
        if counted:
            operation.tallied.remove(outcome)
        while operation.tallied:
            self._tallies.take_back(self._key(operation), operation, operation.tallied.pop())
        return counted

    def drain(self) -> Iterator[Tallies]:
        """Yield what Redis has counted, in batches; each is deleted there once the next is asked for."""
        with suppress(RedisUnavailable):
            yield from self._tallies.drain()

    def _judge(self, operation: Operation, found: Record | Mark | None) -> Record | None:
        """Believe a mark of the same request. One of another request may not have been confirmed by the database."""
        if not isinstance(found, Mark):
            return found
        try:
            is_same = operation.keyring.verify(found.fingerprint, operation.content_digest)
        except UnknownFingerprint:
            return None
        if is_same:
            raise OperationInProgress
        return None

    def transaction(self) -> CachedTransaction:
        """Open ``atomic()``; what was completed in it goes to Redis after the commit."""
        return CachedTransaction(self)

    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run, or return the live record. Raises OperationInProgress, StoreUnavailable."""
        with self.deciding():
            claimed = super().claim(operation)
        self._note(operation, Copy.of(claimed) if isinstance(claimed, Record) else None)
        return claimed

    def complete(
        self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False, closing: Part | None = None
    ) -> datetime:
        """Keep the outcome in the open transaction. Raises ClaimLost, LeaseLost, StoreUnavailable."""
        until = time.monotonic() + ttl.total_seconds()
        expires_at = super().complete(claim, outcome, ttl=ttl, last=last, closing=closing)
        fingerprint = claim.fingerprint if isinstance(claim, Lease) else claim.operation.fingerprint
        record = Record(fingerprint=fingerprint, outcome=outcome, expires_at=expires_at)
        self._note(claim.operation, Copy(record=record, until=until))
        return expires_at

    def reserve(
        self, operation: Operation, *, lease: timedelta, ttl: timedelta, companion: Companion | None = None
    ) -> Lease | Held:
        """Commit a claim, or tell what is live. Raises StoreUnavailable, RuntimeError within a transaction."""
        with self.deciding():
            reserved = super().reserve(operation, lease=lease, ttl=ttl, companion=companion)
            if isinstance(reserved, Held):
                self._learn(operation, reserved)
        return reserved

    def _learn(self, operation: Operation, held: Held) -> None:
        """Copy an outcome; let the mark stay where it is true, since this very request is in flight."""
        if held.record:
            self.keep(operation, Copy.of(held.record))
        elif held.status != "in_progress" or held.has_lapsed or not operation.matches(held.fingerprint):
            self._take_back()

    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is still held. Raises StoreUnavailable."""
        super().release(lease, unknown=unknown)
        self.unmark(lease.operation)

    def check(self) -> list[checks.CheckMessage]:
        """Check the database alias and the cache alias of this store."""
        return [*super().check(), *check_cache(self.cache)]

    def forget(self, digest: bytes) -> bool:
        """Drop what Redis knows of an operation, under whichever secret; tell whether Redis answered.

        What it knows is a copy, which another request may be making again from what it has read before.
        """
        try:
            for secret_id, _ in settings.keyring.secrets:
                self.redis.delete(self._name(settings.keyring, secret_id, digest))
        except RedisUnavailable:
            return False
        return True

    def keep(self, operation: Operation, copy: Copy) -> None:
        """Write a copy once nothing can undo its record any more; until then the database is to be asked."""
        if connections[self.alias].in_atomic_block:
            self.unmark(operation)
            transaction.on_commit(partial(self._write, operation, copy), using=self.alias, robust=True)
        else:
            self._write(operation, copy)

    def _write(self, operation: Operation, copy: Copy) -> None:
        left = int((copy.until - time.monotonic()) * 1000)
        if left <= 0:
            self.unmark(operation)
            return
        with suppress(RedisUnavailable):
            self.redis.set(self._key(operation), encode_record(copy.record, seal_of(operation)), left)

    def unmark(self, operation: Operation) -> None:
        """Take back a mark, so that the next request may ask the database at once."""
        with suppress(RedisUnavailable):
            self.redis.run(_UNMARK, self._key(operation), MARK_PREFIX)

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Take back the mark of this thread where the database fails, or decides otherwise than the mark says."""
        try:
            yield
        except BaseException as error:
            if not (isinstance(error, OperationInProgress) and error.same_request):
                self._take_back()
            raise

    def _take_back(self) -> None:
        if self._thread.marked:
            self.unmark(self._thread.marked)

    def _note(self, operation: Operation, copy: Copy | None) -> None:
        if self.opened:
            self.opened[-1].copies[operation.key.digest] = (operation, copy)

    def _key(self, operation: Operation) -> str:
        keyring = operation.keyring
        return self._name(keyring, keyring.secrets[0][0], operation.key.digest)

    def _name(self, keyring: Keyring, secret_id: str, digest: bytes) -> str:
        return self._tallies.key(keyring.derive(secret_id, b"redis key" + digest).hex())

    @property
    def opened(self) -> list[CachedTransaction]:
        """The transactions that this thread has opened, the innermost last."""
        return self._thread.opened


class CachedTransaction(DatabaseTransaction):
    """A transaction whose outcomes are copied after its commit; if nothing came of it, its marks are taken back."""

    def __init__(self, store: CachedDatabaseStore) -> None:
        super().__init__(store.alias)
        self._store = store
        self.copies: dict[bytes, tuple[Operation, Copy | None]] = {}

    def __enter__(self) -> CachedTransaction:
        with self._store.deciding():
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
                if copy and is_committed:
                    self._store.keep(operation, copy)
                else:
                    self._store.unmark(operation)


class _Thread(local):
    """What one thread is about: the operation that it has marked last, and its open transactions."""

    marked: Operation | None = None

    def __init__(self) -> None:
        self.opened: list[CachedTransaction] = []

"""Stores under test, and what makes time pass for them: deadlines are moved, nobody waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast
from unittest.mock import ANY
from uuid import UUID

from django.utils import timezone

from django_idempotency.core.records import Operation
from django_idempotency.core.records import Record as StoredRecord
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.stores.base import Store
from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.memory import MemoryStore
from django_idempotency.stores.models import Record
from django_idempotency.stores.redis import RedisStore
from django_idempotency.stores.resolution import Decision, LeaseIsLive, NothingToResolve, RecordChanged, Resolver
from django_idempotency.stores.sightings import Sighting
from django_idempotency.testing import CREATED, DAY
from tests.models import Payment
from tests.stores.reference import Entry, Verdict

HOUR = timedelta(hours=1)
Ending = Literal["commit", "rollback", "crash"]
Told = Entry | type[Exception] | None


class Crash(Exception):
    """Whatever may go wrong in a view."""


class Subject:
    """A store under test, and what makes time pass for it.

    ``witness`` sees the same and leaves no marks. ``has_effects`` says that the store's transaction is that of rows,
    ``has_marks`` that it may lose marks and copies at any moment, ``forgets_by_itself`` that it needs no purge.
    """

    has_effects = has_marks = False
    forgets_by_itself = False
    store: Store
    runs = steps = 0

    @property
    def witness(self) -> Store:
        """A store that sees the same records."""
        return self.store

    def clean(self) -> None:
        """Begin with nothing."""
        raise NotImplementedError

    def lapse(self, operation: Operation) -> None:
        """Move the deadline of a lease that is there into the past."""
        raise NotImplementedError

    def expire(self, operation: Operation) -> None:
        """Move the end of the retention into the past, also where nothing is completed."""
        raise NotImplementedError

    def flush(self) -> None:
        """Lose what may be lost at any moment."""

    def pay(self, effect: str) -> None:
        """Write the effect of an operation in the open transaction."""

    def effects(self) -> list[str]:
        """Return the effects that were committed."""
        return []


class Memory(Subject):
    def clean(self) -> None:
        self.store = self.memory = MemoryStore()

    def lapse(self, operation: Operation) -> None:
        self.memory._held[operation.key.digest].deadline = time.monotonic()

    def expire(self, operation: Operation) -> None:
        if record := self.memory._records.get(operation.key.digest):
            self.memory._records[operation.key.digest] = replace(record, expires_at=datetime.now(UTC))


class Database(Subject):
    has_effects = True

    def clean(self) -> None:
        self.store = DatabaseStore()
        Record.objects.all().delete()
        Payment.objects.all().delete()

    def lapse(self, operation: Operation) -> None:
        rows = Record.objects.filter(digest=operation.key.digest)
        assert rows.update(lease_expires_at=timezone.now() - HOUR) == 1

    def expire(self, operation: Operation) -> None:
        Record.objects.filter(digest=operation.key.digest).update(expires_at=timezone.now() - HOUR)

    def pay(self, effect: str) -> None:
        Payment.objects.create(reference=effect, amount=1)

    def effects(self) -> list[str]:
        return sorted(Payment.objects.values_list("reference", flat=True))

    def entry_of(self, seen: Sighting) -> Entry:
        """Return what an operator has seen, but for the request, which a digest does not tell."""
        return Entry(
            fingerprint=ANY,
            status=seen.status,
            owner=seen.owner,
            attempt=seen.attempt,
            has_lapsed=seen.status == "in_progress" and seen.has_lapsed,
            steps=Steps(seen.steps).encode(),
        )

    def resolve(self, seen: Sighting, verdict: Verdict, *, force: bool) -> bool:
        """Decide as an operator does; tell whether that has changed anything."""
        resolver = Resolver(store=cast(DatabaseStore, self.store))
        decision = Decision(actor="user:ops", reason="because", force=force)
        try:
            if verdict == "forget":
                resolver.release(seen, decision)
            elif verdict == "done":
                resolver.resolve_done(seen, decision, CREATED, ttl=DAY)
            else:
                resolver.resolve_not_done(seen, decision)
        except (NothingToResolve, LeaseIsLive, RecordChanged):
            return False
        return True

    def owner(self, operation: Operation) -> UUID | None:
        """Return the owner token that is there."""
        return Record.objects.filter(digest=operation.key.digest).values_list("owner", flat=True).first()


class CachedDatabase(Database):
    """Marks stay until they are taken back, so that one which should have been is noticed."""

    has_marks = True
    witness = DatabaseStore()  # looks of its own must not take marks back

    def clean(self) -> None:
        super().clean()
        self.store = self.cached = CachedDatabaseStore(in_flight=HOUR)
        self.flush()

    def expire(self, operation: Operation) -> None:
        super().expire(operation)
        assert self.cached.forget(operation.key.digest)

    def flush(self) -> None:
        self.cached.redis.client.flushdb()
        assert self.cached.redis.failures == 0


class RedisAlone(Subject):
    forgets_by_itself = True

    def clean(self) -> None:
        self.store = self.redis = RedisStore()
        self.redis.redis.client.flushdb()

    def lapse(self, operation: Operation) -> None:
        self.redis.redis.client.hset(self.name(operation), "deadline", 1)

    def expire(self, operation: Operation) -> None:
        if self.redis.redis.client.hget(self.name(operation), "status") == b"completed":
            self.redis.redis.client.pexpireat(self.name(operation), 1)

    def name(self, operation: Operation) -> str:
        return f"idempotency:record:{operation.key.digest.hex()}"


def claimed(
    store: Store, operation: Operation, run: Callable[[Any], None] | None = None, ending: Ending = "rollback"
) -> Told:
    """Return what a claim is told, None if it was won and its transaction has ended."""
    try:
        with suppress(Crash), store.transaction() as transaction:
            found = store.claim(operation)
            if isinstance(found, StoredRecord):
                return Entry.seen(found)
            if run:
                run(found)
            end(transaction, ending)
    except IdempotencyError as error:
        return type(error)
    return None


def end(transaction: Any, ending: Ending) -> None:
    """Bring the transaction to its end."""
    if ending == "crash":
        raise Crash
    if ending == "rollback":
        transaction.rollback()

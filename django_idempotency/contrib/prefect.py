"""Locks for Prefect's transactions, as leases beside the records: ``pip install django-idempotency[prefect]``.

What runs under ``@prefect.task`` needs none of this: ``run_once`` under it is enough. Nothing of Prefect is imported
here, since its ``LockManager`` is a protocol.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, repeat
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.models import QuerySet
from django.db.models.functions import Now

from django_idempotency import retention
from django_idempotency.conf import settings
from django_idempotency.core.heartbeats import heartbeats
from django_idempotency.core.keys import MAX_KEY_LENGTH, IdempotencyKey
from django_idempotency.core.leases import Lease, LeaseTerms
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import OperationInProgress
from django_idempotency.stores import get_store
from django_idempotency.stores.base import Store
from django_idempotency.stores.models import Record
from django_idempotency.stores.standing import databases

T = TypeVar("T")

OPERATION = "prefect lock"
_CONTENT = hashlib.sha256(OPERATION.encode()).digest()
_UNLIMITED = timedelta(days=365)
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A lock that a transaction of this process has taken; closing ``heart`` ends its renewal."""

    lease: Lease
    heart: ExitStack


_holds: dict[tuple[str, str, str], Hold] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLockManager:
    """A ``LockManager`` in the database, by which Prefect's SERIALIZABLE transactions exclude each other on all hosts.

    A lock is a lease: it is renewed while its process lives and is free ``lease`` after that has died; one with a
    ``hold_timeout`` is not renewed. ``store`` is the alias of a store that is a database. What Prefect keeps of a task
    that has outlived its lock is not fenced; what the task did under ``run_once`` is.
    """

    store: str = "default"
    lease: timedelta = timedelta(seconds=30)

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Take the lock, waiting so many seconds at most, by default for ever; tell whether it is held."""
        return self._wait(lambda: self._take(key, holder, hold_timeout), acquire_timeout)

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Do as ``acquire_lock`` does, and let others run meanwhile."""
        return await self._await(lambda: self._take(key, holder, hold_timeout), acquire_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock up, unless it has lapsed. Raises ValueError where this holder has not taken it here."""
        hold = _holds.pop((self.store, key, holder), None)
        if hold is None:
            raise ValueError(f"No lock held by {holder} for transaction with key {key}")
        hold.heart.close()
        self._apart(lambda: self._database.release(hold.lease, unknown=False))

    def is_locked(self, key: str) -> bool:
        """Tell whether anybody holds the lock."""
        return self._apart(lambda: self._live(key).exists())

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Tell whether this holder, in this process, has the lock still."""
        return self._apart(lambda: self._is_kept(key, holder))

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock, so many seconds at most; tell whether that is so."""
        return self._wait(lambda: not self._live(key).exists(), timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Do as ``wait_for_lock`` does, and let others run meanwhile."""
        return await self._await(lambda: not self._live(key).exists(), timeout)

    def _take(self, key: str, holder: str, hold_timeout: float | None) -> bool:
        if self._is_kept(key, holder):
            return True
        terms = self._terms(hold_timeout)
        try:
            lease = self._lease(_operation(key), terms)
        except OperationInProgress:  # a writer keeps everybody out
            return False
        if lease:
            heart = ExitStack()
            heart.enter_context(heartbeats.keep(self._database, lease, terms))
            _holds[self.store, key, holder] = Hold(lease=lease, heart=heart)
        return lease is not None

    def _lease(self, operation: Operation, terms: LeaseTerms) -> Lease | None:
        found = self._database.reserve(operation, lease=terms.lease, ttl=terms.lease)
        if isinstance(found, Lease):
            return found
        is_free = found.has_lapsed or found.status != "in_progress"
        return self._database.take_over(operation, found, lease=terms.lease) if is_free else None

    def _terms(self, hold_timeout: float | None) -> LeaseTerms:
        if hold_timeout is None:
            return LeaseTerms(lease=self.lease, heartbeat_limit=_UNLIMITED)
        return LeaseTerms(lease=timedelta(seconds=hold_timeout), heartbeat=timedelta(0))

    def _is_kept(self, key: str, holder: str) -> bool:
        hold = _holds.get((self.store, key, holder))
        return hold is not None and self._live(key).filter(owner=hold.lease.owner).exists()

    def _live(self, key: str) -> QuerySet[Record]:
        return locks(self._alias).filter(digest=_operation(key).key.digest, lease_expires_at__gt=Now())

    @property
    def _database(self) -> Store:
        return get_store(self.store)

    @property
    def _alias(self) -> str:
        alias = self._database.alias
        if alias is None:
            raise ImproperlyConfigured(f"The store {self.store!r} is no database, and cannot keep locks.")
        return alias

    def _wait(self, is_so: Callable[[], bool], timeout: float | None) -> bool:
        if self._apart(is_so):
            return True
        for pause in _pauses(timeout):
            time.sleep(pause)
            if self._apart(is_so):
                return True
        return False

    async def _await(self, is_so: Callable[[], bool], timeout: float | None) -> bool:
        if await asyncio.to_thread(self._closing, is_so):
            return True
        for pause in _pauses(timeout):
            await asyncio.sleep(pause)
            if await asyncio.to_thread(self._closing, is_so):
                return True
        return False

    def _apart(self, call: Callable[[], T]) -> T:
        """Call in another thread where this one has a transaction open, or an event loop, as Prefect's may."""
        if not connections[self._alias].in_atomic_block and not _is_in_event_loop():
            return call()
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._closing, call).result()

    def _closing(self, call: Callable[[], T]) -> T:
        try:
            return call()
        finally:
            self._database.close()


def locks(alias: str) -> QuerySet[Record]:
    """Return the locks in a database that have been taken and not given up, live or lapsed."""
    return Record.objects.using(alias).filter(operation=OPERATION, status=Record.Status.IN_PROGRESS)


def lapsed_locks(alias: str) -> QuerySet[Record]:
    """Return the locks of processes that have died, as far as nobody has taken them since."""
    return locks(alias).filter(lease_expires_at__lte=Now())


def _operation(key: str) -> Operation:
    value = key if len(key) <= MAX_KEY_LENGTH else hashlib.sha256(key.encode()).hexdigest()
    named = IdempotencyKey(value=value, scope=("prefect",), operation=OPERATION)
    return Operation(key=named, content_digest=_CONTENT, keyring=settings.keyring)


def _pauses(timeout: float | None) -> Iterator[float]:
    """Yield how many seconds to sleep before each further try, until the time is over."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
        left = pause if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return
        yield min(pause, left)


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


retention.register(
    retention.Retention(name="prefect_locks", model=Record, expired=lapsed_locks, order_by="id", aliases=databases)
)

"""The model-backed store: records are rows beside the effects and commit with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    router,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import OperationInProgress, StoreUnavailable, TransactionConflict
from django_idempotency.stores import models
from django_idempotency.stores.base import Store
from django_idempotency.stores.companions import Companion, Part
from django_idempotency.stores.postgresql import PostgreSQL
from django_idempotency.stores.sqlite import SQLite, note_beginning

_DIALECTS: dict[str, type[PostgreSQL | SQLite]] = {"postgresql": PostgreSQL, "sqlite": SQLite}
_CONFLICTS = frozenset({"40001", "40P01"})


class DatabaseStore(Store):
    """Keeps records in the table ``idempotency_record``.

    ``using`` is the database alias, by default the one that the routers give for writing records. It must be the alias
    of the views' own rows: only then do effect and outcome commit together. Reads go to it too, never to a replica.
    """

    recalls_ahead = False

    def __init__(self, *, using: str | None = None) -> None:
        self._using = using
        self._dialects: dict[str, PostgreSQL | SQLite] = {}

    @property
    def alias(self) -> str:
        """The database alias of the records."""
        if self._using:
            return self._using
        return router.db_for_write(models.Record) if router.routers else DEFAULT_DB_ALIAS

    def recall(self, operation: Operation) -> Record | None:
        """Return a live record where reading it outside a transaction spares a wait (SQLite)."""
        connection = connections[self.alias]
        with _outages:
            return self._dialect(connection).recall(connection, operation)

    def transaction(self) -> DatabaseTransaction:
        """Open ``atomic()`` on the alias, a savepoint where one is open already."""
        return DatabaseTransaction(self.alias)

    def claim(self, operation: Operation) -> Claim | Record:
        """Win the right to run, or return the live record. Raises OperationInProgress, StoreUnavailable."""
        connection = connections[self.alias]
        with _outages:
            return self._dialect(connection).claim(connection, operation)

    def complete(
        self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False, closing: Part | None = None
    ) -> datetime:
        """Keep the outcome in the open transaction. Raises ClaimLost, LeaseLost, StoreUnavailable.

        ``closing`` is what is written about a lease in the same statement, where the database can do that.
        """
        connection = connections[self.alias]
        with _outages:
            if closing and isinstance(claim, Lease):
                return self._dialect(connection).accompanied.complete(connection, claim, outcome, closing, ttl=ttl)
            return self._dialect(connection).complete(connection, claim, outcome, ttl, last=last)

    def reserve(
        self, operation: Operation, *, lease: timedelta, ttl: timedelta, companion: Companion | None = None
    ) -> Lease | Held:
        """Commit a claim, with its companion, or tell what is live.

        With a companion, look and claim are one statement where the database can do that. Raises StoreUnavailable,
        RuntimeError within a transaction.
        """
        connection = connections[self.alias]
        dialect = self._dialect(connection)
        with _outages:
            if companion:
                return dialect.accompanied.reserve(connection, self, operation, companion, lease=lease, ttl=ttl)
            return dialect.leases.reserve(connection, self, operation, lease, ttl)

    def take_over(
        self, operation: Operation, held: Held, *, lease: timedelta, companion: Companion | None = None
    ) -> Lease | None:
        """Commit a claim in the place of what was seen, if that has not changed. Raises StoreUnavailable."""
        connection = connections[self.alias]
        dialect = self._dialect(connection)
        with _outages:
            if companion:
                return dialect.accompanied.take_over(connection, self, operation, held, companion, lease=lease)
            return dialect.leases.take_over(connection, self, operation, held, lease)

    def look(self, operation: Operation) -> Held | None:
        """Return what is known of an operation, None if that is nothing or has expired. Raises StoreUnavailable."""
        connection = connections[self.alias]
        with _outages:
            return self._dialect(connection).leases.look(connection, operation)

    def reopen(self, operation: Operation, *, lease: timedelta, companion: Companion) -> Lease | None:
        """Commit a claim of what is completed, which stays there for ``restore``; None if it is not, or has changed."""
        connection = connections[self.alias]
        dialect = self._dialect(connection)
        with _outages:
            held = self.look(operation)
            if held is None or held.record is None:
                return None
            return dialect.accompanied.reopen(connection, self, operation, held, companion, lease=lease)

    def restore(self, lease: Lease) -> None:
        """Let go of what was reopened, as it was before. Raises StoreUnavailable."""
        connection = connections[self.alias]
        with _outages:
            self._dialect(connection).accompanied.restore(connection, lease)

    def renew(self, held: Lease, *, lease: timedelta) -> bool:
        """Move the deadline; tell whether the lease was still held. Raises StoreUnavailable."""
        connection = connections[self.alias]
        try:
            with _outages:
                return self._dialect(connection).leases.renew(connection, held, lease)
        except OperationInProgress:
            return True  # a writer keeps everybody out, also those who would take over

    def suspended(self) -> AbstractContextManager[None]:
        """Let go of the database for the time of an outside call, where it lets in one writer at a time."""
        connection = connections[self.alias]
        return self._dialect(connection).suspended(connection)

    def write_steps(self, lease: Lease, steps: Steps, *, in_transaction: bool = False) -> None:
        """Commit steps at once, or within the open transaction. Raises LeaseLost, StoreUnavailable."""
        connection = connections[self.alias]
        dialect = self._dialect(connection)
        with _outages, nullcontext(connection) if in_transaction else dialect.committing(connection) as writing:
            dialect.leases.write_steps(writing, lease, steps)

    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is still held. Raises StoreUnavailable."""
        connection = connections[self.alias]
        with _outages:
            self._dialect(connection).leases.release(connection, lease, unknown=unknown)

    def close(self) -> None:
        """Close the calling thread's connection."""
        connections[self.alias].close()

    def rest(self) -> None:
        """Return a pooled connection to its pool, so that waiting threads cannot starve the one they wait for."""
        connection = connections[self.alias]
        if connection.settings_dict.get("OPTIONS", {}).get("pool") and not connection.in_atomic_block:
            connection.close()

    def count_expired(self) -> int:
        """Return how many records a purge would delete."""
        connection = connections[self.alias]
        return self._dialect(connection).count_expired(connection)

    def purge(self, *, batch_size: int) -> Iterator[int]:
        """Delete expired records in batches, each in a transaction of its own."""
        connection = connections[self.alias]
        return self._dialect(connection).purge(connection, batch_size)

    def check(self) -> list[checks.CheckMessage]:
        """Check the database alias of this store."""
        return list(self._check())

    def _check(self) -> Iterator[checks.CheckMessage]:
        if self.alias not in connections.settings:
            yield checks.Error(f"The store's database alias {self.alias!r} is not in DATABASES.", id="idempotency.E010")
            return
        connection = connections[self.alias]
        if connection.vendor not in _DIALECTS:
            yield checks.Error(
                f"The model-backed store does not support {connection.display_name}.",
                hint=f"Supported: {', '.join(sorted(_DIALECTS))}.",
                id="idempotency.E011",
            )
        if not router.allow_migrate_model(self.alias, models.Record):
            yield checks.Error(
                f"The routers do not let records be written to {self.alias!r}.",
                hint="A replica cannot keep records: name the primary in the store's OPTIONS, or leave 'using' out.",
                id="idempotency.E012",
            )
        elif self.alias != router.db_for_write(models.Record):
            yield checks.Warning(
                f"The routers write records to {router.db_for_write(models.Record)!r}, the store to {self.alias!r}.",
                id="idempotency.W012",
            )
        options = connection.settings_dict.get("OPTIONS", {})
        mode = str(options.get("transaction_mode") or "").upper()
        if connection.vendor == "sqlite" and mode not in ("IMMEDIATE", "EXCLUSIVE"):
            yield checks.Warning(
                f"The SQLite database {self.alias!r} does not start its transactions with a write lock.",
                hint="Set OPTIONS['transaction_mode'] to 'IMMEDIATE': a transaction that reads before it writes fails "
                "at once with 'database is locked' instead of waiting.",
                id="idempotency.W013",
            )

    def _dialect(self, connection: BaseDatabaseWrapper) -> PostgreSQL | SQLite:
        dialect = self._dialects.get(connection.alias)
        if dialect is None:
            if connection.vendor not in _DIALECTS:
                raise ImproperlyConfigured(f"The model-backed store does not support {connection.display_name}.")
            dialect = self._dialects[connection.alias] = _DIALECTS[connection.vendor](connection)
        return dialect


class DatabaseTransaction:
    """``atomic()`` that tells an outage of the store from an error of the effects."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self.is_rolled_back = False
        self._atomic = transaction.atomic(using=alias)

    def __enter__(self) -> DatabaseTransaction:
        with _outages:
            self._atomic.__enter__()
        connection = connections[self._alias]
        if connection.vendor == "sqlite":
            note_beginning(connection)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            with _outages:
                self._atomic.__exit__(None, None, None)
            return
        self._atomic.__exit__(exc_type, exc, traceback)
        if isinstance(exc, DatabaseError) and _sqlstate(exc) in _CONFLICTS:
            raise TransactionConflict from exc

    def rollback(self) -> None:
        """Undo everything when the block ends."""
        self.is_rolled_back = True
        transaction.set_rollback(True, using=self._alias)


class _Outages:
    """Translates what the database says of itself; an IntegrityError at COMMIT, say, stays what it is."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(exc, OperationalError | InterfaceError):
            return
        if _sqlstate(exc) in _CONFLICTS:
            raise TransactionConflict from exc
        if getattr(exc.__cause__, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise OperationInProgress("Another write holds the database.") from exc
        raise StoreUnavailable from exc


_outages = _Outages()


def _sqlstate(error: BaseException) -> Any:
    return getattr(error.__cause__, "sqlstate", None)

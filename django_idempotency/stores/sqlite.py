"""The record table on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings as django_settings
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_idempotency.core.leases import Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import ClaimLost, OperationInProgress
from django_idempotency.statements import is_enclosed, run
from django_idempotency.stores.companions import AccompaniedLeases
from django_idempotency.stores.executions import forget
from django_idempotency.stores.leases import LeaseTable
from django_idempotency.stores.rows import RecordTable, aware, read_record, written_values

T = TypeVar("T")
_CHANGES = "idempotency_changes"


class SQLite:
    """Claims by a write: SQLite lets one writer in at a time, so the claim is its write lock.

    The claim's first statement writes, since a transaction that has read before cannot wait for the lock. The clock is
    the host's, the only one there is.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        table = RecordTable(connection)
        digest, expires_at, status, id_ = (table.column(name) for name in ("digest", "expires_at", "status", "id"))
        self._select = (
            f"SELECT {table.read_columns}, r.{expires_at} FROM {table.name} AS r "
            f"WHERE r.{digest} = %s AND r.{expires_at} > %s AND r.{status} = 'completed'"
        )
        self.leases = LeaseTable(table, moment="%s", as_moment=_moment, looks_first=True)
        self.accompanied = AccompaniedLeases(self.leases, table, moment="%s", is_one=False)
        expired = table.is_expired("%s")
        self._forget = table.forget_one("%s")
        self._insert = table.insert() + "NOTHING"
        self._count_expired = f"SELECT count(*) FROM {table.name} WHERE {expired}"
        self._purge = table.forget(
            f"{id_} IN (SELECT {id_} FROM {table.name} WHERE {expired} ORDER BY {expires_at} LIMIT %s)"
        )

    def recall(self, connection: BaseDatabaseWrapper, operation: Operation) -> Record | None:
        """Read without a transaction, so that replays never queue behind a writer."""
        with connection.cursor() as cursor:
            run(cursor, self._select, (operation.key.digest, _now(connection)))
            row = cursor.fetchone()
        if row is None:
            return None
        *values, expires_at = row
        return read_record((*values, aware(expires_at, connection.timezone)))

    def claim(self, connection: BaseDatabaseWrapper, operation: Operation) -> Claim | Record:
        """Take the write lock by forgetting an expired record, then look again."""
        forget(connection, self._forget, (operation.key.digest, _now(connection)))
        claimed_at = datetime.now(UTC).timestamp()
        if held := self.leases.look(connection, operation):
            return held.record or held.refuse(operation)
        return Claim(operation=operation, claimed_at=claimed_at)

    def complete(
        self, connection: BaseDatabaseWrapper, claim: Claim, outcome: Outcome, ttl: timedelta, *, last: bool
    ) -> datetime:
        """Insert the record; no row means that a rival has completed. The claim has removed what had expired."""
        if isinstance(claim, Lease):
            return self.leases.complete(connection, claim, outcome, ttl)
        claimed_at, duration = datetime.fromtimestamp(claim.claimed_at, UTC), claim.duration
        completed_at = claimed_at + timedelta(seconds=duration)
        times = (claimed_at, completed_at, completed_at + ttl)
        values = [*written_values(claim, outcome, duration), *(_column_time(connection, time) for time in times)]
        with connection.cursor() as cursor:
            run(cursor, self._insert, values)
            if not cursor.rowcount:
                raise ClaimLost
        return completed_at + ttl

    def committing(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[BaseDatabaseWrapper]:
        """Yield the connection itself: while a transaction is suspended, what it changes is committed at once."""
        return nullcontext(connection)

    @contextmanager
    def suspended(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        """End the open transaction, which must not have written anything, and begin another one afterwards.

        SQLite lets one writer in at a time: for as long as the transaction is open, nobody could write down a step, nor
        anything else. Raises RuntimeError where something would be torn apart.
        """
        if not connection.in_atomic_block or is_enclosed(connection):
            yield
            return
        raw: Any = connection.connection
        if len(connection.atomic_blocks) > 1 or raw.total_changes != getattr(connection, _CHANGES, None):
            raise RuntimeError(
                "On SQLite a step comes before the first write of the view, and outside of atomic(): the database lets "
                "in one writer at a time, who must not hold it while waiting for somebody else."
            )
        raw.execute("COMMIT")
        try:
            yield
        finally:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("BEGIN IMMEDIATE")
            except BaseException as error:
                connection.needs_rollback = True  # without it the view would go on to write outside of a transaction
                if isinstance(error, OperationalError):
                    raise OperationInProgress("Another write holds the database.") from error
                raise
            note_beginning(connection)

    def count_expired(self, connection: BaseDatabaseWrapper) -> int:
        """Count what a purge would delete."""
        with connection.cursor() as cursor:
            cursor.execute(self._count_expired, (_now(connection),))
            return int(cursor.fetchone()[0])

    def purge(self, connection: BaseDatabaseWrapper, batch_size: int) -> Iterator[int]:
        """Delete in batches, oldest first."""
        while deleted := forget(connection, self._purge, (_now(connection), batch_size)):
            yield len(deleted)


def note_beginning(connection: BaseDatabaseWrapper) -> None:
    """Note how much a connection has written before the transaction that it has begun."""
    raw: Any = connection.connection
    setattr(connection, _CHANGES, raw.total_changes)


def _now(connection: BaseDatabaseWrapper) -> Any:
    return _column_time(connection, datetime.now(UTC))


def _moment(connection: BaseDatabaseWrapper, seconds: float) -> Any:
    return _column_time(connection, datetime.now(UTC) + timedelta(seconds=seconds))


def _column_time(connection: BaseDatabaseWrapper, value: datetime) -> Any:
    if not django_settings.USE_TZ:
        value = timezone.make_naive(value, timezone.get_default_timezone())
    return connection.ops.adapt_datetimefield_value(value)

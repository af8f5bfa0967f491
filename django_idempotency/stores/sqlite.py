"""The record table on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import ClaimLost
from django_idempotency.stores.rows import RecordTable, aware, read_record, run, written_values


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
            f"WHERE r.{digest} = %s AND r.{expires_at} > %s"
        )
        self._forget = f"DELETE FROM {table.name} WHERE {digest} = %s AND {expires_at} <= %s"
        self._insert = table.insert() + "NOTHING"
        expired = f"{expires_at} <= %s AND {status} = 'completed'"
        self._count_expired = f"SELECT count(*) FROM {table.name} WHERE {expired}"
        self._purge = (
            f"DELETE FROM {table.name} WHERE {id_} IN "
            f"(SELECT {id_} FROM {table.name} WHERE {expired} ORDER BY {expires_at} LIMIT %s)"
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
        with connection.cursor() as cursor:
            run(cursor, self._forget, (operation.key.digest, _now(connection)))
        claimed_at = datetime.now(UTC).timestamp()
        return self.recall(connection, operation) or Claim(operation=operation, claimed_at=claimed_at)

    def complete(self, connection: BaseDatabaseWrapper, claim: Claim, outcome: Outcome, ttl: timedelta) -> datetime:
        """Insert the record; no row means that a rival has completed. The claim has removed what had expired."""
        claimed_at, duration = datetime.fromtimestamp(claim.claimed_at, UTC), claim.duration
        completed_at = claimed_at + timedelta(seconds=duration)
        times = (claimed_at, completed_at, completed_at + ttl)
        values = [*written_values(claim, outcome, duration), *(_column_time(connection, time) for time in times)]
        with connection.cursor() as cursor:
            run(cursor, self._insert, values)
            if not cursor.rowcount:
                raise ClaimLost
        return completed_at + ttl

    def count_expired(self, connection: BaseDatabaseWrapper) -> int:
        """Count what a purge would delete."""
        with connection.cursor() as cursor:
            cursor.execute(self._count_expired, (_now(connection),))
            return int(cursor.fetchone()[0])

    def purge(self, connection: BaseDatabaseWrapper, batch_size: int) -> Iterator[int]:
        """Delete in batches, oldest first."""
        while True:
            with connection.cursor() as cursor:
                cursor.execute(self._purge, (_now(connection), batch_size))
                deleted = cursor.rowcount
            if not deleted:
                return
            yield deleted


def _now(connection: BaseDatabaseWrapper) -> Any:
    return _column_time(connection, datetime.now(UTC))


def _column_time(connection: BaseDatabaseWrapper, value: datetime) -> Any:
    if not django_settings.USE_TZ:
        value = timezone.make_naive(value, timezone.get_default_timezone())
    return connection.ops.adapt_datetimefield_value(value)

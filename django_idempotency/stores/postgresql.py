"""The record table on PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import ClaimLost, OperationInProgress
from django_idempotency.stores.rows import RecordTable, aware, read_record, run, written_values

_FOUND, _SAME_IN_FLIGHT, _OTHER_IN_FLIGHT = "found", "same", "other"


class PostgreSQL:
    """Claims by a look-up that also tries two transaction-level advisory locks.

    The locks only refuse early, so that a duplicate does not hang behind the open transaction of its twin; the unique
    digest decides. Who runs holds one lock for the key and one for the key with this request. A duplicate that may
    share the second has met another request: it lets go at once, and who has won the key waits for that. Both locks
    end with the transaction, as pgbouncer may want it.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        table = RecordTable(connection)
        digest, expires_at, status = (table.column(name) for name in ("digest", "expires_at", "status"))
        live = f"r.{digest} = %s AND r.{expires_at} > statement_timestamp()"
        self._claim = (
            f"SELECT CASE WHEN r.{digest} IS NOT NULL THEN '{_FOUND}' "
            f"WHEN pg_try_advisory_xact_lock(%s) THEN CASE WHEN pg_advisory_xact_lock(%s) IS NULL THEN '' END "
            f"WHEN pg_try_advisory_xact_lock_shared(%s) THEN '{_OTHER_IN_FLIGHT}' "
            f"ELSE '{_SAME_IN_FLIGHT}' END, {table.read_columns} "
            f"FROM (SELECT 1) AS one LEFT JOIN {table.name} AS r ON {live}"
        )
        self._complete = table.insert(
            headers="%s::jsonb",
            times="statement_timestamp() - %s, statement_timestamp(), statement_timestamp() + %s",
        )
        expired = f"{expires_at} <= statement_timestamp() AND {status} = 'completed'"
        self._count_expired = f"SELECT count(*) FROM {table.name} WHERE {expired}"
        self._purge = (
            f"DELETE FROM {table.name} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table.name} WHERE {expired} "
            f"ORDER BY {expires_at} LIMIT %s FOR UPDATE SKIP LOCKED))"
        )

    def recall(self, connection: BaseDatabaseWrapper, operation: Operation) -> Record | None:
        """Look nothing up: the claim tells as much in the same statement."""
        return None

    def claim(self, connection: BaseDatabaseWrapper, operation: Operation) -> Claim | Record:
        """Look up and try the locks in one statement."""
        digest = operation.key.digest
        of_key, of_request = _lock(digest), _lock(digest + operation.content_digest)
        with connection.cursor() as cursor:
            run(cursor, self._claim, (of_key, of_request, of_request, digest))
            found, *values, expires_at = cursor.fetchone()
        if found == _FOUND:
            return read_record((*values, aware(expires_at)))
        if found:
            raise OperationInProgress(same_request=found == _SAME_IN_FLIGHT)
        return Claim(operation=operation)

    def complete(self, connection: BaseDatabaseWrapper, claim: Claim, outcome: Outcome, ttl: timedelta) -> datetime:
        """Insert the record; no row means that a rival has completed."""
        values = written_values(claim, outcome)
        with connection.cursor() as cursor:
            run(cursor, self._complete, (*values, timedelta(seconds=claim.duration), ttl))
            row = cursor.fetchone()
        if row is None:
            raise ClaimLost
        return aware(row[0])

    def count_expired(self, connection: BaseDatabaseWrapper) -> int:
        """Count what a purge would delete."""
        with connection.cursor() as cursor:
            cursor.execute(self._count_expired)
            return int(cursor.fetchone()[0])

    def purge(self, connection: BaseDatabaseWrapper, batch_size: int) -> Iterator[int]:
        """Delete in batches, oldest first, leaving out what somebody else is working on."""
        while True:
            with connection.cursor() as cursor:
                cursor.execute(self._purge, (batch_size,))
                deleted = cursor.rowcount
            if not deleted:
                return
            yield deleted


def _lock(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"django-idempotency lock" + content).digest()[:8], "big", signed=True)

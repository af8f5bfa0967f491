"""The record table on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.db import IntegrityError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from django_idempotency.core.leases import Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import ClaimLost, OperationInProgress
from django_idempotency.statements import is_enclosed, open_cursor, run
from django_idempotency.stores.companions import AccompaniedLeases
from django_idempotency.stores.executions import forget
from django_idempotency.stores.functions import is_kept, store_functions
from django_idempotency.stores.leases import LeaseTable
from django_idempotency.stores.rows import RecordTable, read_record, written_values
from django_idempotency.wire import Row, Wire, is_idle, outermost, run_last

T = TypeVar("T")
_IDLE = 0  # psycopg.pq.TransactionStatus.IDLE, which may not be installed
_UNIQUE = "idempotency_record_digest"
_NOT_TO_BE_CALLED = frozenset({"42883", "42501"})  # undefined_function, insufficient_privilege
_FOUND, _HELD, _SAME_IN_FLIGHT, _OTHER_IN_FLIGHT = "found", "held", "same", "other"


class PostgreSQL:
    """Claims by a look-up that also tries two transaction-level advisory locks.

    The locks only refuse early, so that a duplicate does not hang behind the open transaction of its twin; the unique
    digest decides. Who runs holds one lock for the key and one for the key with this request. A duplicate that may
    share the second has met another request: it lets go at once, and who has won the key waits for that. Both locks
    end with the transaction, as pgbouncer may want it.

    Where the session outlives the request and the functions of the store are there, they are called instead.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        table = RecordTable(connection)
        digest, expires_at, status = (table.column(name) for name in ("digest", "expires_at", "status"))
        self._claim = (
            f"SELECT CASE WHEN r.{status} = 'completed' AND r.{expires_at} > statement_timestamp() THEN '{_FOUND}' "
            f"WHEN r.{status} <> 'completed' THEN '{_HELD}' "
            f"WHEN pg_try_advisory_xact_lock(%s) THEN CASE WHEN pg_advisory_xact_lock(%s) IS NULL THEN '' END "
            f"WHEN pg_try_advisory_xact_lock_shared(%s) THEN '{_OTHER_IN_FLIGHT}' "
            f"ELSE '{_SAME_IN_FLIGHT}' END, date_part('epoch', statement_timestamp()), "
            f"{table.read_columns}, date_part('epoch', r.{expires_at}) "
            f"FROM (SELECT 1) AS one LEFT JOIN {table.name} AS r ON r.{digest} = %s"
        )
        insert = table.insert(headers="%s::jsonb", time="to_timestamp(%s)")
        self._insert = insert + "NOTHING"
        self._insert_last = table.insert(headers="%s::jsonb", time="to_timestamp(%s)", conflict="")
        self.functions = store_functions(connection, self._claim, self._insert_last)
        self._claim_call, self._insert_call = (function.call for function in self.functions)
        # Each changes once, so that threads in schemas with and without the functions agree.
        self._may_call, self._has_called = True, False
        self._forget = table.forget_one("statement_timestamp()")
        moment = "statement_timestamp() + make_interval(secs => %s)"
        self.leases = LeaseTable(
            table,
            moment=moment,
            as_moment=lambda connection, seconds: seconds,
            json="%s::jsonb",
            unlocked="ctid = (SELECT ctid FROM {name} WHERE {rows} FOR UPDATE SKIP LOCKED)",
        )
        self.accompanied = AccompaniedLeases(self.leases, table, moment=moment, is_one=True)
        expired = table.is_expired("statement_timestamp()")
        self._count_expired = f"SELECT count(*) FROM {table.name} WHERE {expired}"
        # The lower bound spares each batch the index entries of those before it, which a long transaction keeps alive.
        self._purge = table.forget(
            f"ctid = ANY(ARRAY(SELECT ctid FROM {table.name} WHERE {expires_at} >= %s::timestamptz AND {expired} "
            f"ORDER BY {expires_at} LIMIT %s FOR UPDATE SKIP LOCKED))"
        )

    def recall(self, connection: BaseDatabaseWrapper, operation: Operation) -> Record | None:
        """Look nothing up: the claim tells as much in the same statement."""
        return None

    def claim(self, connection: BaseDatabaseWrapper, operation: Operation) -> Claim | Record:
        """Look up and try the locks in one statement."""
        digest = operation.key.digest
        of_key = _lock(digest)
        of_request = of_key ^ _lock(operation.content_digest)
        found, now, *values, expires_at = self._look(connection, (of_key, of_request, of_request, digest))
        if found == _FOUND:
            return read_record((*values, datetime.fromtimestamp(expires_at, UTC)))
        if found == _HELD:
            self.leases.refuse(connection, operation)
        if found:
            raise OperationInProgress(same_request=found == _SAME_IN_FLIGHT)
        return Claim(operation=operation, claimed_at=now, replaces=expires_at is not None)

    def _look(self, connection: BaseDatabaseWrapper, params: Sequence[Any]) -> Sequence[Any]:
        wire = outermost(connection)
        if wire and is_idle(connection):
            return _decoded(wire, self._begin(connection, wire, params))
        with open_cursor(connection) as cursor:
            run(cursor, self._claim, params)
            row: Sequence[Any] = cursor.fetchone()
            return row

    def _begin(self, connection: BaseDatabaseWrapper, wire: Wire, params: Sequence[Any]) -> Row:
        """Begin the transaction with the look-up, by its function where that can be called."""
        if self._may_call and is_kept(connection):
            try:
                row = wire.run(self._claim_call, params, before="BEGIN; ")
            except ProgrammingError as error:
                if getattr(error.__cause__, "sqlstate", None) not in _NOT_TO_BE_CALLED:
                    raise
                wire.run("ROLLBACK", ())
                self._may_call = False
            else:
                self._has_called = True
                return row
        return wire.run(self._claim, params, before="BEGIN; ")

    def complete(
        self, connection: BaseDatabaseWrapper, claim: Claim, outcome: Outcome, ttl: timedelta, *, last: bool
    ) -> datetime:
        """Insert the record, or put it in the place of an expired one; that of a rival is left alone."""
        if isinstance(claim, Lease):
            return self.leases.complete(connection, claim, outcome, ttl)
        duration = claim.duration
        completed_at = claim.claimed_at + duration
        expires_at = completed_at + ttl.total_seconds()
        values = [*written_values(claim, outcome, duration), claim.claimed_at, completed_at, expires_at]
        if claim.replaces:
            forget(connection, self._forget, (claim.operation.key.digest,))
        if not (last and not claim.replaces and self._commit_with(connection, values)):
            with open_cursor(connection) as cursor:
                self._keep(cursor, values)
        return datetime.fromtimestamp(expires_at, UTC)

    def _keep(self, cursor: CursorWrapper, values: Sequence[Any]) -> None:
        run(cursor, self._insert, values)
        if not cursor.rowcount:
            raise ClaimLost

    def _commit_with(self, connection: BaseDatabaseWrapper, values: Sequence[Any]) -> bool:
        """Let the record and the COMMIT travel together; where a rival has completed, the COMMIT is never reached.

        Return False where they must not.
        """
        try:
            call = self._insert_call if self._may_call and self._has_called and is_kept(connection) else ""
            return run_last(connection, self._insert_last, values, by_wire=call)
        except IntegrityError as error:
            if getattr(getattr(error.__cause__, "diag", None), "constraint_name", "") == _UNIQUE:
                raise ClaimLost from error
            raise

    @contextmanager
    def committing(self, connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
        """Yield a connection whose changes are committed at once: this one where its transaction has not begun yet."""
        raw: Any = connection.connection
        if not connection.in_atomic_block or is_enclosed(connection):
            yield connection
        elif raw.info.transaction_status == _IDLE:
            yield connection
            raw.commit()
        else:
            with self._aside(connection) as other:
                yield other

    @contextmanager
    def _aside(self, connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
        """Open a second connection, not out of the pool: those who hold the others may wait for the same."""
        other = connection.copy()
        other.settings_dict["OPTIONS"].pop("pool", None)
        try:
            yield other
        finally:
            other.close()

    def suspended(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """Suspend nothing: an open transaction keeps nobody from their steps."""
        return nullcontext()

    def count_expired(self, connection: BaseDatabaseWrapper) -> int:
        """Count what a purge would delete."""
        with connection.cursor() as cursor:
            cursor.execute(self._count_expired)
            return int(cursor.fetchone()[0])

    def purge(self, connection: BaseDatabaseWrapper, batch_size: int) -> Iterator[int]:
        """Delete in batches, oldest first, leaving out what somebody else is working on."""
        reached: Any = "-infinity"
        while deleted := forget(connection, self._purge, (reached, batch_size)):
            yield len(deleted)
            reached = max(deleted)


def _decoded(wire: Wire, row: Row) -> list[Any]:
    """Return a row of the look-up as cursors would: what is not text is converted."""
    converters: tuple[Callable[[Any], Any], ...] = (
        _text,
        float,
        int,
        _text,
        wire.bytes_of,
        int,
        _text,
        wire.bytes_of,
        _text,
        float,
    )
    return [None if value is None else convert(value) for convert, value in zip(converters, row, strict=True)]


def _text(value: bytes) -> str:
    return value.decode()


def _lock(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big", signed=True)

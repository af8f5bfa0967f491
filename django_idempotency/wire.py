"""Statements sent to PostgreSQL as text, several in one round trip, past the cursors of Django and psycopg.

Only where nobody could tell the difference: not while queries are logged or wrapped, not where statements are prepared,
and not where transactions begin in a way of their own. Elsewhere, and with another driver, the usual cursors serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.statements import is_enclosed, open_cursor, run

try:
    from psycopg import errors, pq
    from psycopg.generators import execute
except ImportError:  # pragma: no cover - psycopg is optional, and its generators are nobody's promise
    pq = None  # type: ignore[assignment]

_IDLE, _IN_TRANSACTION = 0, 2  # of pq.TransactionStatus
Row = list[bytes | None]


class Wire:
    """A connection of psycopg whose statements are sent as text."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection: Any = connection
        self._raw: Any = connection.connection
        self._escaping = pq.Escaping(self._raw.pgconn)

    def run(self, statement: str, params: Sequence[Any], *, before: str = "", after: str = "") -> Row:
        """Run a statement, with others before and after it; return the row that it returns, if any.

        ``params`` are integers, floats, texts, bytes and None. Raises what Django's cursors raise.
        """
        query = before.encode() + statement.encode() % tuple(map(self._literal, params)) + after.encode()
        with self._connection.wrap_database_errors, self._raw.lock:
            self._raw.pgconn.send_query(query)
            results = self._raw.wait(execute(self._raw.pgconn))
            for result in results:
                if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                    raise errors.error_from_result(result)
        rows = next((result for result in results if result.status == pq.ExecStatus.TUPLES_OK), None)
        if rows is None or not rows.ntuples:
            return []
        return [rows.get_value(0, number) for number in range(rows.nfields)]

    def bytes_of(self, value: bytes | None) -> bytes | None:
        """Read a value of the type bytea."""
        return None if value is None else bytes(self._escaping.unescape_bytea(value))

    def _literal(self, value: Any) -> bytes:
        if value is None:
            return b"NULL"
        if isinstance(value, bytes | memoryview):
            return b"'\\x%s'::bytea" % bytes(value).hex().encode()
        if isinstance(value, str):
            if "\x00" in value:
                raise self._connection.Database.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
            return bytes(self._escaping.escape_literal(value.encode()))
        assert isinstance(value, int | float)
        return (repr(value) if value >= 0 else f"({value!r})").encode()


def outermost(connection: Any) -> Wire | None:
    """Return the wire of a connection in its outermost transaction, None where it must not be used."""
    if pq is None or len(connection.atomic_blocks) != 1 or connection.queries_logged or connection.execute_wrappers:
        return None
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    raw = connection.connection
    if getattr(raw, "prepare_threshold", 0) is not None or raw.autocommit or is_enclosed(connection):
        return None
    if raw.isolation_level is not None or raw.read_only is not None or raw.deferrable is not None:
        return None
    return Wire(connection) if _speaks_utf8(raw) else None


def run_last(
    connection: Any, statement: str, params: Sequence[Any], *, is_flushed: bool = True, by_wire: str = ""
) -> bool:
    """Run the last statement of a transaction together with its COMMIT; return False where they must go apart.

    ``by_wire`` is what is sent as text in its place. What is not flushed may be lost if the database server crashes
    within the second, but costs no wait for the disk.
    Django commits once more when its block ends, which costs nothing where no transaction is open.
    """
    commit = "; COMMIT" if is_flushed else "; SET LOCAL synchronous_commit TO off; COMMIT"
    wire = outermost(connection)
    if wire and connection.connection.pgconn.transaction_status == _IN_TRANSACTION:
        wire.run(by_wire or statement, params, after=commit)
        return True
    with open_cursor(connection) as cursor:
        if not _takes_commit(connection, cursor):
            return False
        run(cursor, statement + commit, params)
    return True


def _takes_commit(connection: Any, cursor: Any) -> bool:
    """Tell whether a COMMIT may be sent with a statement: in the outermost block, over the simple protocol."""
    client_cursor = getattr(connection.Database, "ClientCursor", ())
    return (
        len(connection.atomic_blocks) == 1 and not is_enclosed(connection) and isinstance(cursor.cursor, client_cursor)
    )


def is_idle(connection: Any) -> bool:
    """Tell whether nothing has been sent of the transaction yet."""
    return bool(connection.connection.pgconn.transaction_status == _IDLE)


def _speaks_utf8(raw: Any) -> bool:
    return bool(raw.pgconn.parameter_status(b"client_encoding") == b"UTF8")

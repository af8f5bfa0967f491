"""Raw statements on Django's connections, where composing one through the ORM costs more than running it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper


def open_cursor(connection: Any) -> CursorWrapper:
    """Return a cursor that prepares its statements where the project lets psycopg do so (``prepare_threshold``).

    Planning these statements costs more than running them. Django's own cursors bind on the client and never prepare.
    """
    connection.ensure_connection()
    if getattr(connection.connection, "prepare_threshold", None) is None:
        return cast(CursorWrapper, connection.cursor())
    cursor = connection.Database.Cursor(connection.connection)
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    return cast(CursorWrapper, wrap(cursor))


def run(cursor: CursorWrapper, sql: str, params: Sequence[Any]) -> None:
    """Execute a statement so that SQL debug logging sees its text, not the keys and bodies in its parameters."""
    if isinstance(cursor, CursorDebugWrapper):
        with cursor.debug_sql(sql):
            CursorWrapper.execute(cursor, sql, params)
    else:
        cursor.execute(sql, params)


def is_enclosed(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a test's transaction is around everything, in which nothing can be committed early."""
    return bool(connection.atomic_blocks) and connection.atomic_blocks[0]._from_testcase  # type: ignore[attr-defined]


def committed(connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
    """Let each statement commit by itself. Raises RuntimeError within a transaction that is not a test's."""
    return transaction.atomic(connection.alias, durable=True) if connection.in_atomic_block else nullcontext()

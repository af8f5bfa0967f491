"""What becomes of the tables between two tests that commit: emptied by DELETE, which for few rows costs a fiftieth of
TRUNCATE; content types and permissions, which every project has and nobody changes, stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from django.core.management.commands import flush
from django.db.backends.postgresql.base import DatabaseOperations as PostgreSQL
from django.db.backends.sqlite3.base import DatabaseOperations as SQLite

from django_idempotency.retention import PURGE_SETTING

_KEPT = {"auth_permission", "django_content_type"}
_DOOR = f"SELECT set_config('{PURGE_SETTING}', 'on', true)"  # append-only tables refuse a DELETE otherwise


def _deletions(operations: Any, style: Any, tables: Sequence[str], **options: Any) -> list[str]:
    emptied = sorted(set(tables) - _KEPT)
    if not isinstance(operations, PostgreSQL):
        return [f"DELETE FROM {operations.quote_name(table)}" for table in emptied]
    counted = _counted(operations.connection, emptied)
    truncated = [f"TRUNCATE {operations.quote_name(table)} CASCADE" for table in counted]
    return [_DOOR, *truncated, *(f"DELETE FROM {operations.quote_name(table)}" for table in emptied)]


def _counted(connection: Any, tables: Sequence[str]) -> list[str]:
    """Return the tables whose rows have been counted: what the database believes of them must not outlive the test."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE reltuples >= 0 AND relname = ANY(%s)", [list(tables)])
        return [name for (name,) in cursor.fetchall()]


def flush_quickly(patch: pytest.MonkeyPatch) -> None:
    """Let ``flush`` do so; it need not make content types and permissions anew."""
    patch.setattr(PostgreSQL, "sql_flush", _deletions)
    patch.setattr(SQLite, "sql_flush", _deletions)
    patch.setattr(flush, "emit_post_migrate_signal", lambda *args, **options: None)

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
    found = [f"DELETE FROM {operations.quote_name(table)}" for table in sorted(tables) if table not in _KEPT]
    return [_DOOR, *found] if isinstance(operations, PostgreSQL) else found


def flush_quickly(patch: pytest.MonkeyPatch) -> None:
    """Let ``flush`` do so; it need not make content types and permissions anew."""
    patch.setattr(PostgreSQL, "sql_flush", _deletions)
    patch.setattr(SQLite, "sql_flush", _deletions)
    patch.setattr(flush, "emit_post_migrate_signal", lambda *args, **options: None)

"""Locks that are waited for within bounds, and the errors that tell that they were not got."""

from __future__ import annotations

import random
import time
from datetime import timedelta

from django.db import DatabaseError, OperationalError, connections

# lock_not_available, deadlock_detected, query_canceled (statement_timeout), serialization_failure
_SQLSTATES = ("55P03", "40P01", "57014", "40001")


def is_conflict(error: DatabaseError) -> bool:
    """Tell whether the same may succeed when others are through."""
    cause = error.__cause__
    if isinstance(error, OperationalError) and "locked" in str(error):
        return True  # SQLite
    return getattr(cause, "sqlstate", None) in _SQLSTATES


def bound(alias: str, *, lock: timedelta, statement: timedelta) -> None:
    """Bound how long the statements of this transaction wait for a lock, and run (PostgreSQL)."""
    if connections[alias].vendor == "postgresql":
        with connections[alias].cursor() as cursor:
            for name, limit in (("lock_timeout", lock), ("statement_timeout", statement)):
                milliseconds = max(1, round(limit.total_seconds() * 1000))
                cursor.execute("SELECT set_config(%s, %s, true)", [name, str(milliseconds)])


def pause(attempt: int) -> None:
    """Wait before another attempt, longer each time and never in step with others."""
    time.sleep(random.uniform(0.5, 1.5) * min(0.05 * 2**attempt, 2.0))  # noqa: S311


def holders(alias: str, table: str) -> str:
    """Say which sessions hold locks on a table or view, longest first; empty if that cannot be told."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::bigint FROM pg_stat_activity "
            "WHERE pid IN (SELECT pid FROM pg_locks WHERE relation = to_regclass(%s)) AND pid <> pg_backend_pid() "
            "ORDER BY xact_start LIMIT 5",
            [connection.ops.quote_name(table)],
        )
        return ", ".join(f"pid {pid} (its transaction is {seconds} s old)" for pid, seconds in cursor.fetchall())

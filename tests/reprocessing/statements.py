"""What a session does while it keeps everybody out, and for how long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

_CHANGES = re.compile(r"\s*(CREATE|ALTER|DROP|TRUNCATE|INSERT|UPDATE|DELETE|GRANT|REVOKE)\b")


@dataclass(kw_only=True)
class Locked:
    """One transaction that has taken an exclusive lock, from the answer to its LOCK to that to its COMMIT."""

    started: float
    statements: list[str] = field(default_factory=list)
    seconds: float | None = None


@contextmanager
def locks_watched() -> Iterator[list[Locked]]:
    """Yield the transactions of this session that lock tables, as they come; ``seconds`` is None if rolled back."""
    watched: list[Locked] = []

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith("LOCK TABLE"):
            watched.append(locked := Locked(started=time.perf_counter()))
            transaction.on_commit(lambda: setattr(locked, "seconds", time.perf_counter() - locked.started))
        elif watched and connection.in_atomic_block:
            watched[-1].statements.append(sql)
        return result

    with connection.execute_wrapper(watch):
        yield watched


@contextmanager
def changes_watched(table: str) -> Iterator[list[str]]:
    """Yield the statements that change a table, a view or their rows, as they come; bookkeeping is left out."""
    seen: list[str] = []

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if _CHANGES.match(sql) and table in sql and '"idempotency_' not in sql:
            seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield seen

"""When a fact may be told to the outside: a log, a metric or a span cannot be rolled back."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import connections

logger = logging.getLogger("django_idempotency")


def after_commit(using: str | None, tell: Callable[[], None]) -> None:
    """Call ``tell`` when the open transaction has committed, at once where none is open; it cannot undo the fact."""
    # Not transaction.on_commit(): without a transaction that connects, where a replay may have needed no database.
    if using is not None and (connection := connections[using]).in_atomic_block:
        connection.on_commit(tell, robust=True)
    else:
        at_once(tell)


def at_once(tell: Callable[[], None]) -> None:
    """Call ``tell``; what it raises is logged."""
    try:
        tell()
    except Exception:
        logger.exception("A fact could not be told")


def when_true(using: str | None, outcome: str, tell: Callable[[], None]) -> None:
    """Call ``tell`` when an answer with this outcome is true: a refusal or a replay is so whatever is rolled back."""
    if outcome == "executed":
        after_commit(using, tell)
    else:
        at_once(tell)

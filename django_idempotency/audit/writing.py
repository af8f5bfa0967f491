"""The statement that appends one audit event: a duplicate pays for it, so it is composed once."""

from __future__ import annotations

import atexit
import logging
import os
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_idempotency.audit.models import AuditEvent
from django_idempotency.statements import open_cursor, run
from django_idempotency.wire import run_last

logger = logging.getLogger("django_idempotency")

_DEFAULTS: dict[str, Any] = {
    "event": "",
    "layer": "http",
    "operation": "",
    "scope": "",
    "digest": b"",
    "fingerprint": b"",
    "outcome_hash": b"",
    "attempt": 0,
    "status": None,
    "duration": None,
    "count": 1,
    "actor": "",
    "reason": "",
}
_waiting: dict[str, deque[Mapping[str, Any]]] = defaultdict(deque)
_FIELDS = {field.name: field for field in AuditEvent._meta.concrete_fields}


def append(using: str | None, event: str, *, is_last: bool = False, **facts: Any) -> None:
    """Append an event at the time of the database, in the open transaction, if any.

    Where nothing else is to happen in that transaction (``is_last``), it is committed at once, without a wait for the
    disk: nobody depends on it. Outside a transaction on SQLite, the event waits where somebody else is writing. Without
    a database nothing is written down.
    """
    if using is None:
        return
    connection = connections[using]
    if connection.vendor != "postgresql":
        _put_down(connection, {**facts, "event": event, "at": timezone.now()})
        return
    values = [*map({**_DEFAULTS, **facts, "event": event}.__getitem__, _DEFAULTS)]
    statement = _statement(using, "statement_timestamp()")
    if not (is_last and run_last(connection, statement, values, is_flushed=False)):
        with open_cursor(connection) as cursor:
            run(cursor, statement, values)


def _put_down(connection: BaseDatabaseWrapper, event: Mapping[str, Any]) -> None:
    if connection.in_atomic_block:
        append_many(connection.alias, [event])
    else:
        _waiting[connection.alias].append(event)
        append_waiting(connection.alias)


def append_waiting(using: str | None) -> None:
    """Append the events that this process has not got rid of, if the database can be written to without waiting.

    SQLite lets one writer in at a time: a replay does not queue behind a slow view for the sake of its audit event.
    """
    if using is None:
        return
    waiting, events = _waiting[using], []
    while waiting:
        events.append(waiting.popleft())
    if not events:
        return
    try:
        with _without_waiting(connections[using]):
            append_many(using, events)
    except OperationalError:
        waiting.extendleft(reversed(events))


def append_rest() -> None:
    """Append what this process still has, now that it ends, and wait for whoever writes."""
    for using, waiting in _waiting.items():
        events = list(waiting)
        waiting.clear()
        try:
            append_many(using, events)
        except DatabaseError:
            logger.warning("%d audit events are lost: the database cannot be written to.", len(events))


atexit.register(append_rest)
# Those of the parent are the parent's to write down.
os.register_at_fork(after_in_child=_waiting.clear)


@contextmanager
def _without_waiting(connection: BaseDatabaseWrapper) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        (milliseconds,) = cursor.fetchone()
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {int(milliseconds)}")


def append_many(using: str | None, events: Sequence[Mapping[str, Any]]) -> None:
    """Append events that tell their own times (``at``, aware), in one statement."""
    if not events or using is None:
        return
    connection = connections[using]
    rows = [[*map({**_DEFAULTS, **event}.__getitem__, _DEFAULTS), _at(connection, event["at"])] for event in events]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {_table_and_columns(using)} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            for row in rows:
                run(cursor, _statement(using, "%s"), row)


def _at(connection: BaseDatabaseWrapper, at: datetime) -> Any:
    kept = at if settings.USE_TZ else timezone.make_naive(at, timezone.get_default_timezone())
    return connection.ops.adapt_datetimefield_value(kept)


@lru_cache(maxsize=16)
def _statement(using: str, now: str) -> str:
    return f"INSERT INTO {_table_and_columns(using)} VALUES ({', '.join(['%s'] * len(_DEFAULTS))}, {now})"


def _table_and_columns(using: str) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(quote(str(_FIELDS[name].column)) for name in (*_DEFAULTS, "at"))
    return f"{quote(AuditEvent._meta.db_table)} ({columns})"

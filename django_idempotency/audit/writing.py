"""The statement that appends one audit event: a duplicate pays for it, so it is composed once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.db import connections
from django.utils import timezone

from django_idempotency.audit.models import AuditEvent
from django_idempotency.statements import open_cursor, run, takes_commit

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
_COLUMNS = {field.name: str(field.column) for field in AuditEvent._meta.concrete_fields}


def append(using: str, event: str, *, is_last: bool = False, **facts: Any) -> None:
    """Append an event at the time of the database, in the open transaction, if any.

    Where nothing else is to happen in that transaction (``is_last``), it is committed at once.
    """
    connection = connections[using]
    values = [{**_DEFAULTS, **facts, "event": event}[name] for name in _DEFAULTS]
    with open_cursor(connection) as cursor:
        if connection.vendor == "postgresql":
            commit = "; COMMIT" if is_last and takes_commit(connection, cursor) else ""
            run(cursor, _statement(using, "statement_timestamp()") + commit, values)
        else:
            now = connection.ops.adapt_datetimefield_value(timezone.now())
            run(cursor, _statement(using, "%s"), [*values, now])


@lru_cache(maxsize=16)
def _statement(using: str, now: str) -> str:
    quote = connections[using].ops.quote_name
    columns = ", ".join(quote(_COLUMNS[name]) for name in (*_DEFAULTS, "at"))
    placeholders = ", ".join(["%s"] * len(_DEFAULTS))
    return f"INSERT INTO {quote(AuditEvent._meta.db_table)} ({columns}) VALUES ({placeholders}, {now})"

"""Records that make room: what they say of an execution is told before it is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from django_idempotency.signals import executions_forgotten
from django_idempotency.statements import run
from django_idempotency.stores.models import Record

#: What is told of each execution, and the fields of its record.
FACTS = {
    "operation": "operation",
    "scope": "scope",
    "digest": "digest",
    "fingerprint": "fingerprint",
    "outcome_hash": "outcome_hash",
    "attempt": "attempt",
    "status": "response_status",
    "duration": "duration",
    "at": "completed_at",
}


def forget(connection: BaseDatabaseWrapper, deletion: str, params: Sequence[Any]) -> list[datetime]:
    """Delete expired records in a statement that returns FACTS and the expiry; return when they had expired.

    Who listens writes the facts down in the same transaction.
    """
    with transaction.atomic(connection.alias, savepoint=False), connection.cursor() as cursor:
        run(cursor, deletion, params)
        rows = cursor.fetchall()
        if rows:
            executions = [_facts(connection, row) for row in rows]
            executions_forgotten.send(Record, using=connection.alias, layer="http", executions=executions)
    return [_moment(connection, row[-1]) for row in rows]


def _facts(connection: BaseDatabaseWrapper, row: Sequence[Any]) -> dict[str, Any]:
    facts = dict(zip(FACTS, row[:-1], strict=True))
    return {**facts, "at": _moment(connection, facts["at"])}


def _moment(connection: BaseDatabaseWrapper, value: Any) -> datetime:
    """Return a time that a statement has returned, which SQLite does as text."""
    moment: datetime = parse_datetime(value) if isinstance(value, str) else value  # type: ignore[assignment]
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment, connection.timezone or UTC)

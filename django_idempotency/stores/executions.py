"""Records that make room: what they say of an execution is told before it is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from django_idempotency.core.layers import JOB_RAISED, layer_of
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
        _tell(connection.alias, [_facts(connection, row) for row in rows])
    return [read_moment(connection, row[-1]) for row in rows]


def tell_replaced(using: str, digest: bytes) -> None:
    """Tell what a record says of an earlier execution that is to be replaced in the open transaction."""
    rows = Record.objects.using(using).filter(digest=digest, completed_at__isnull=False)
    _tell(using, [dict(zip(FACTS, row, strict=True)) for row in rows.values_list(*FACTS.values())])


def _tell(using: str, executions: Sequence[dict[str, Any]]) -> None:
    """Tell what was executed; that a job has failed was told when it did."""
    by_layer: dict[str, list[dict[str, Any]]] = {}
    for told in executions:
        layer = layer_of(told["scope"])
        if not (layer == "jobs" and told["status"] == JOB_RAISED):
            by_layer.setdefault(layer, []).append(told)
    for layer, told_there in by_layer.items():
        executions_forgotten.send(Record, using=using, layer=layer, executions=told_there)


def _facts(connection: BaseDatabaseWrapper, row: Sequence[Any]) -> dict[str, Any]:
    facts = dict(zip(FACTS, row[:-1], strict=True))
    return {**facts, "at": read_moment(connection, facts["at"])}


def read_moment(connection: BaseDatabaseWrapper, value: Any) -> datetime:
    """Return a time that a statement has returned, which SQLite does as text."""
    moment: datetime = parse_datetime(value) if isinstance(value, str) else value  # type: ignore[assignment]
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment, connection.timezone or UTC)

"""Lanes: shares of the business keys, of which one relay at a time has each, so that a key keeps its order.

A lane is held by the lock on its row for as long as the transaction lasts, and is free at once where a relay dies.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections, models
from django.db.models import OuterRef, Subquery
from django.db.models.expressions import RawSQL

from django_idempotency.streams.models import OutboxEvent, OutboxLane
from django_idempotency.streams.outbox import LANES

#: Lanes that a relay takes at a time where much is to be done, so that others find some, too.
SHARE = LANES // 4
_FIELDS = ("pk", "event_id", "topic", "business_key", "payload", "headers", "created_at")


class Waiting(NamedTuple):
    """An event that is to be published."""

    pk: int
    event_id: uuid.UUID
    topic: str
    business_key: str
    payload: bytes | None
    headers: dict[str, str]
    created_at: datetime


def ensure(alias: str) -> None:
    """Have a row for each lane."""
    rows = OutboxLane.objects.using(alias)
    if rows.count() < LANES:
        rows.bulk_create([OutboxLane(number=number) for number in range(LANES)], ignore_conflicts=True)


def take(alias: str, size: int, topics: Sequence[str], *, share: int = SHARE) -> list[Waiting]:
    """Lock so many lanes that nobody has, whose events wait longest; return events of them, oldest first.

    To be called in a transaction, on PostgreSQL.
    """
    head = _pending(alias, topics).filter(lane=OuterRef("number")).order_by("id").values("id")[:1]
    free = OutboxLane.objects.using(alias).annotate(head=Subquery(head)).filter(head__isnull=False).order_by("head")
    taken = list(free.select_for_update(skip_locked=True).values_list("number", flat=True)[:share])
    if not taken:
        return []
    # A new statement: it sees what those have committed who had the lanes before.
    return _fetch(_pending(alias, topics).filter(pk__in=_heads(alias, taken, size, topics)), size)


def oldest(alias: str, size: int, topics: Sequence[str]) -> list[Waiting]:
    """Return the oldest events, where there is only one relay."""
    return _fetch(_pending(alias, topics).filter(lane__gte=0), size)


def _pending(alias: str, topics: Sequence[str]) -> Any:
    pending = OutboxEvent.objects.using(alias).pending()
    return pending.filter(topic__in=topics) if topics else pending


def _heads(alias: str, taken: Sequence[int], size: int, topics: Sequence[str]) -> RawSQL:
    """Return the ids at the head of each lane, from its index; together about twice what is asked for."""
    quote, meta = connections[alias].ops.quote_name, OutboxEvent._meta
    table, lane, key = quote(meta.db_table), quote("lane"), quote("id")
    chosen = f"AND e.{quote('topic')} = ANY(%s)" if topics else ""
    sql = (
        f"SELECT h.id FROM unnest(%s::smallint[]) AS l(number), LATERAL (SELECT e.{key} AS id FROM {table} AS e "
        f"WHERE e.{quote('status')} = 'pending' AND e.{lane} = l.number {chosen} ORDER BY e.{key} LIMIT %s) AS h"
    )
    limit = min(size, 2 * size // len(taken) + 1)
    return RawSQL(sql, [list(taken), *([list(topics)] if topics else []), limit])  # noqa: S611 - names are quoted


def _fetch(events: models.QuerySet[Any], size: int) -> list[Waiting]:
    rows = events.order_by("id").values_list(*_FIELDS)[:size]
    return [Waiting(*row)._replace(payload=None if row[4] is None else bytes(row[4])) for row in rows]

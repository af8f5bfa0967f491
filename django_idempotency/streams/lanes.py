"""Lanes: shares of the business keys, of which one relay at a time has each, so that a key keeps its order.

A lane is held by the lock on its row for as long as the transaction lasts, and is free at once where a relay dies.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections

from django_idempotency.statements import open_cursor, run
from django_idempotency.streams.models import OutboxEvent, OutboxLane, now
from django_idempotency.streams.outbox import LANES

#: Lanes that a relay takes at a time where much is to be done, so that others find some, too.
SHARE = LANES // 4
_FIELDS = ("pk", "event_id", "topic", "business_key", "payload", "headers", "created_at")


class Waiting(NamedTuple):
    """An event that is to be published; ``headers`` are as in the row, ``created_at`` as in ISO 8601."""

    pk: int
    event_id: str
    topic: str
    business_key: str
    payload: bytes | None
    headers: str
    created_at: str


def ensure(alias: str) -> None:
    """Have a row for each lane."""
    rows = OutboxLane.objects.using(alias)
    if rows.count() < LANES:
        rows.bulk_create([OutboxLane(number=number) for number in range(LANES)], ignore_conflicts=True)


def take(alias: str, size: int, topics: Sequence[str], *, share: int = SHARE) -> list[Waiting]:
    """Lock so many lanes that nobody has, whose events wait longest; return events of them, oldest first.

    To be called in a transaction, on PostgreSQL.
    """
    taken = _lock(alias, topics, share)
    if not taken:
        return []
    # A new statement: it sees what those have committed who had the lanes before.
    return _heads(alias, taken, size, topics)


def oldest(alias: str, size: int, topics: Sequence[str]) -> list[Waiting]:
    """Return the oldest events, where there is only one relay."""
    rows = _pending(alias, topics).filter(lane__gte=0).order_by("id").values_list(*_FIELDS)[:size]
    return [_waiting(*row) for row in rows]


def _lock(alias: str, topics: Sequence[str], share: int) -> list[int]:
    quote = connections[alias].ops.quote_name
    chosen = "AND topic = ANY(%s)" if topics else ""
    sql = (
        f"SELECT l.number FROM {quote(OutboxLane._meta.db_table)} AS l, LATERAL (SELECT id FROM "
        f"{quote(OutboxEvent._meta.db_table)} WHERE status = 'pending' AND lane = l.number {chosen} ORDER BY id LIMIT 1"
        ") AS h ORDER BY h.id LIMIT %s FOR UPDATE OF l SKIP LOCKED"
    )
    with open_cursor(connections[alias]) as cursor:
        run(cursor, sql, [*([list(topics)] if topics else []), share])
        return [number for (number,) in cursor.fetchall()]


def mark_published(alias: str, keys: Sequence[int]) -> None:
    """Write down that the broker has these events."""
    if connections[alias].vendor != "postgresql":
        rows = OutboxEvent.objects.using(alias).filter(pk__in=keys)
        rows.update(status=OutboxEvent.Status.PUBLISHED, published_at=now(alias), error="")
        return
    table = connections[alias].ops.quote_name(OutboxEvent._meta.db_table)
    done = "status = 'published', published_at = statement_timestamp(), error = ''"
    with open_cursor(connections[alias]) as cursor:
        run(cursor, f"UPDATE {table} SET {done} WHERE id = ANY(%s)", [list(keys)])


def _waiting(
    pk: int, event_id: Any, topic: str, key: str, payload: Any, headers: dict[str, str], created_at: datetime
) -> Waiting:
    encoded = None if payload is None else bytes(payload)
    return Waiting(pk, str(event_id), topic, key, encoded, json.dumps(headers), created_at.isoformat())


def _pending(alias: str, topics: Sequence[str]) -> Any:
    pending = OutboxEvent.objects.using(alias).pending()
    return pending.filter(topic__in=topics) if topics else pending


def _heads(alias: str, taken: Sequence[int], size: int, topics: Sequence[str]) -> list[Waiting]:
    """Return the heads of lanes from their index, so many of each that together they are about twice the size.

    In SQL, and with times and headers as texts: to compose this, and to convert its rows, would cost more than it does.
    """
    quote = connections[alias].ops.quote_name
    table = quote(OutboxEvent._meta.db_table)
    chosen = "AND topic = ANY(%s)" if topics else ""
    sql = (
        "SELECT h.* FROM unnest(%s::smallint[]) AS l(number), LATERAL (SELECT id, event_id::text, topic, business_key, "
        "payload, headers::text, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00') "
        f"FROM {table} WHERE status = 'pending' AND lane = l.number {chosen} ORDER BY id LIMIT %s) AS h "
        "ORDER BY h.id LIMIT %s"
    )
    each = min(size, 2 * size // len(taken) + 1)
    with open_cursor(connections[alias]) as cursor:
        run(cursor, sql, [list(taken), *([list(topics)] if topics else []), each, size])
        return [Waiting(*row) for row in cursor.fetchall()]

"""The inbox: what a group has seen. A unique row decides, also between rivals."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import NotSupportedError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_idempotency.statements import open_cursor, run
from django_idempotency.streams.events import Event
from django_idempotency.streams.models import ConsumedEvent

Outcome = ConsumedEvent.Outcome
_FIELDS = ("group", "event_id", "topic", "partition", "offset", "business_key", "event_at", "outcome", "consumed_at")
_ARRAYS = ("uuid[]", "integer[]", "bigint[]", "timestamptz[]", "text[]")


class Inbox:
    """The inbox of a group on a database."""

    def __init__(self, alias: str, group: str) -> None:
        self._alias, self._group = alias, group

    @property
    def _connection(self) -> BaseDatabaseWrapper:
        """The connection of this thread."""
        connection = connections[self._alias]
        if connection.vendor not in ("postgresql", "sqlite"):
            raise NotSupportedError("Streams need PostgreSQL or SQLite.")
        return connection

    def enter(self, events: Iterable[Event], outcome: str = Outcome.EXECUTED) -> set[uuid.UUID]:
        """Enter events of one topic with one statement, which waits for rivals; return the ids of the new ones."""
        # Sorted: two that enter the same ids in opposite order would wait for each other.
        rows = sorted({event.event_id: event for event in reversed(list(events))}.items())
        if not rows:
            return set()
        is_postgresql = self._connection.vendor == "postgresql"
        sql, params = (self._arrays if is_postgresql else self._values)([event for _, event in rows], outcome)
        with open_cursor(self._connection) as cursor:
            run(cursor, sql, params)
            return {found if isinstance(found, uuid.UUID) else uuid.UUID(found) for (found,) in cursor.fetchall()}

    def mark(self, ids: Iterable[uuid.UUID], outcome: str) -> None:
        """Say what else has come of events that were entered."""
        rows = ConsumedEvent.objects.using(self._alias).filter(group=self._group, event_id__in=list(ids))
        rows.update(outcome=outcome)

    def _arrays(self, events: Sequence[Event], outcome: str) -> tuple[str, list[Any]]:
        arrays = ", ".join(f"%s::{array}" for array in _ARRAYS)
        source = (
            f"SELECT %s, e.event_id, %s, e.part, e.place, e.business_key, e.event_at, %s, statement_timestamp() "
            f"FROM unnest({arrays}) AS e(event_id, part, place, event_at, business_key)"
        )
        # What needs no quotes is written here: to have the driver quote each element would take as long as the INSERT.
        columns = zip(*((e.event_id, e.partition, e.offset, e.at.isoformat()) for e in events), strict=True)
        literals = [f"{{{','.join(map(str, column))}}}" for column in columns]
        params = [self._group, events[0].topic, outcome, *literals, [event.business_key for event in events]]
        return self._insert(source), params

    def _values(self, events: Sequence[Event], outcome: str) -> tuple[str, list[Any]]:
        row = f"({', '.join(['%s'] * len(_FIELDS))})"
        params = [value for event in events for value in self._row(event, outcome)]
        return self._insert(f"VALUES {', '.join([row] * len(events))}"), params

    def _row(self, event: Event, outcome: str) -> Iterator[Any]:
        values = (self._group, event.event_id, event.topic, event.partition, event.offset, event.business_key)
        for name, value in zip(_FIELDS, (*values, event.at, outcome, timezone.now()), strict=True):
            yield ConsumedEvent._meta.get_field(name).get_db_prep_value(value, self._connection)  # type: ignore[union-attr]

    def _insert(self, source: str) -> str:
        quote, meta = self._connection.ops.quote_name, ConsumedEvent._meta
        columns = ", ".join(map(quote, _FIELDS))
        target = f"{quote('group')}, {quote('event_id')}"
        return (
            f"INSERT INTO {quote(meta.db_table)} ({columns}) {source} "
            f"ON CONFLICT ({target}) DO NOTHING RETURNING {quote('event_id')}"
        )


def largest_batch(connection: BaseDatabaseWrapper) -> int:
    """Return how many events one statement can enter."""
    return 3000 if connection.vendor == "sqlite" else 100_000

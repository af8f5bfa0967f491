"""Windows by the time of the event: in whichever order events arrive, no two of one payload are within the ttl."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.writes.clocks import BATCH, column_time
from django_idempotency.writes.models import DedupInterval
from django_idempotency.writes.overlaps import CONSTRAINT
from django_idempotency.writes.payloads import Key

#: A payload at the time of an event, and the same known by one of its digests.
Sighting = tuple[Key, datetime]
Event = tuple[bytes, datetime]

_COLUMNS = "name, digest, starts_at, ends_at, seen_at, expires_at"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OVERLAPS = "stretch.digest = {digest} AND stretch.starts_at < {end} AND stretch.ends_at > {start}"


class Intervals:
    """The intervals of one window on one connection, within its transaction.

    Each is kept for ``ttl`` and ``lateness`` after the event or its arrival, whichever is later.
    """

    def __init__(self, connection: BaseDatabaseWrapper, name: str, ttl: timedelta, *, lateness: timedelta) -> None:
        self._connection, self._name, self._ttl, self._kept_for = connection, name, ttl, ttl + lateness
        self._table = connection.ops.quote_name(DedupInterval._meta.db_table)
        is_postgresql = connection.vendor == "postgresql"
        self._look, self._write = (
            (self._look_at_once, self._write_at_once) if is_postgresql else (self._look_singly, self._write_singly)
        )

    def accept(self, sightings: Collection[Sighting]) -> set[Sighting]:
        """Return those that are the first at their times; they are from now on.

        Rows are locked in the order of digests and times, so that no two callers wait for each other. Equal payloads
        of one call are therefore judged by their times, not by their places.
        """
        known = self._look(_events(sightings))
        new = {(key, at) for key, at in sightings if not any((digest, at) in known for digest in key)}
        written = self._write(_events(new))
        return {(key, at) for key, at in new if all((digest, at) in written for digest in key)}

    def _look_at_once(self, events: Sequence[Event]) -> set[Event]:
        """Return those that overlap with what is there, by a plain query that waits for nobody."""
        known: set[Event] = set()
        overlaps = _OVERLAPS.format(digest="e.digest", start="e.at", end="e.at + make_interval(secs => %s)")
        sql = (
            "SELECT e.place FROM unnest(%s::bytea[], %s::timestamptz[]) WITH ORDINALITY AS e(digest, at, place) "
            f"WHERE EXISTS (SELECT 1 FROM {self._table} AS stretch WHERE {overlaps})"
        )
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            places = self._run(sql, (*_columns(batch), self._ttl.total_seconds()))
            known.update(batch[place - 1] for (place,) in places)
        return known

    def _write_at_once(self, events: Sequence[Event]) -> set[Event]:
        """Insert those that overlap with nothing; a rival who is at it is waited for."""
        ttl, kept_for = self._ttl.total_seconds(), self._kept_for.total_seconds()
        now = "statement_timestamp()"
        sql = (
            f"INSERT INTO {self._table} ({_COLUMNS}) "
            f"SELECT CAST(%s AS varchar), digest, at, at + make_interval(secs => %s), {now}, "
            f"greatest(at, {now}) + make_interval(secs => %s) "
            "FROM unnest(%s::bytea[], %s::timestamptz[]) AS e(digest, at) ORDER BY digest, at "
            f"ON CONFLICT ON CONSTRAINT {CONSTRAINT} DO NOTHING "
            "RETURNING digest, (extract(epoch FROM starts_at) * 1000000)::bigint"
        )
        written: set[Event] = set()
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            by_time = {(digest, _microseconds(at)): (digest, at) for digest, at in batch}
            rows = self._run(sql, (self._name, ttl, kept_for, *_columns(batch)))
            written.update(by_time[bytes(digest), time] for digest, time in rows)
        return written

    def _look_singly(self, events: Sequence[Event]) -> set[Event]:
        sql = f"SELECT 1 FROM {self._table} AS stretch WHERE {_OVERLAPS.format(digest='%s', start='%s', end='%s')}"
        return {event for event in events if self._run(sql, self._bounds(*event))}

    def _write_singly(self, events: Sequence[Event]) -> set[Event]:
        return {event for event in events if self._write_one(*event)}

    def _write_one(self, digest: bytes, at: datetime) -> bool:
        """Look and insert in one statement: within it SQLite lets nobody else write."""
        bounds = self._bounds(digest, at)
        sql = (
            f"INSERT INTO {self._table} ({_COLUMNS}) SELECT %s, %s, %s, %s, %s, %s WHERE NOT EXISTS "
            f"(SELECT 1 FROM {self._table} AS stretch WHERE {_OVERLAPS.format(digest='%s', start='%s', end='%s')})"
        )
        now = datetime.now(UTC)
        times = (at, at + self._ttl, now, max(at, now) + self._kept_for)
        values = (self._name, digest, *(column_time(self._connection, time) for time in times))
        with self._connection.cursor() as cursor:
            cursor.execute(sql, (*values, *bounds))
            return bool(cursor.rowcount)

    def _bounds(self, digest: bytes, at: datetime) -> tuple[Any, ...]:
        """Return the parameters of an overlap."""
        end, start = (column_time(self._connection, time) for time in (at + self._ttl, at))
        return digest, end, start

    def _run(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())


def _events(sightings: Iterable[Sighting]) -> list[Event]:
    return sorted({(digest, at) for key, at in sightings for digest in key})


def _columns(events: Sequence[Event]) -> tuple[list[bytes], list[datetime]]:
    return [digest for digest, _ in events], [at for _, at in events]


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)

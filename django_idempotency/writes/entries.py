"""Windows by the time of arrival: one row a payload, taken over in one statement once its time is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.writes.clocks import BATCH, Expression, digest_rows, is_one_of, moments
from django_idempotency.writes.models import DedupEntry
from django_idempotency.writes.payloads import Key

_COLUMNS = "name, digest, first_seen_at, last_seen_at, expires_at, hits"


class Entries:
    """The entries of one window on one connection, within its transaction.

    ``slides``: a duplicate prolongs the window. ``tracks``: duplicates are counted. ``at`` stands in for the clock.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        name: str,
        ttl: timedelta,
        *,
        slides: bool,
        tracks: bool,
        at: datetime | None,
    ) -> None:
        self._connection, self._name = connection, name
        self._slides, self._tracks = slides, tracks
        self._table = connection.ops.quote_name(DedupEntry._meta.db_table)
        self._moments = partial(moments, connection, at, ttl)

    def accept(self, sightings: Iterable[Key]) -> set[Key]:
        """Return those that are the first of their windows; they are from now on.

        All rows are locked in the order of their digests, so that no two callers wait for each other.
        """
        counts = Counter(sightings)
        live = set() if self._slides else self._look(chain.from_iterable(counts))
        written = self._write(sorted({digest for key in counts for digest in self._to_write(key, live)}))
        if self._tracks:
            self._count({digest: count - 1 for key, count in counts.items() for digest in key if count > 1})
        return {key for key in counts if live.isdisjoint(key) and written.issuperset(key)}

    def _to_write(self, key: Key, live: set[bytes]) -> Iterable[bytes]:
        """Return which digests of a key are written. While secrets are exchanged, it may be known by an old one only.

        Of a duplicate that is known, the others are left out: they would begin a window of their own.
        """
        if live.isdisjoint(key):
            return key
        return live.intersection(key) if self._tracks else ()

    def _look(self, digests: Iterable[bytes]) -> set[bytes]:
        """Return those that are live. This is a plain query: a duplicate waits for nobody, and nobody for it."""
        found: set[bytes] = set()
        for batch in _batches(sorted(digests)):
            wanted, (now, _end) = is_one_of(self._connection, batch), self._moments()
            sql = f"SELECT digest FROM {self._table} WHERE digest {wanted.sql} AND expires_at > {now.sql}"
            found.update(bytes(digest) for (digest,) in self._run(sql, wanted, now))
        return found

    def _write(self, digests: Sequence[bytes]) -> set[bytes]:
        """Insert or renew; return the digests that were not live. A rival who is at it is waited for."""
        accepted: set[bytes] = set()
        for batch in _batches(digests):
            rows, (now, end) = digest_rows(self._connection, batch), self._moments()
            sql = (
                f"WITH seen(digest) AS ({rows.sql}) INSERT INTO {self._table} AS entry ({_COLUMNS}) "
                f"SELECT CAST(%s AS varchar), digest, {now.sql}, {now.sql}, {end.sql}, 0 FROM seen "
                f"WHERE true ORDER BY digest ON CONFLICT (digest) DO UPDATE SET {self._renewal} RETURNING digest, hits"
            )
            returned = self._run(sql, rows, Expression("", (self._name,)), now, now, end)
            accepted.update(bytes(digest) for digest, hits in returned if not hits)
        return accepted

    @property
    def _renewal(self) -> str:
        """What becomes of a row that is there already: without hits it is as good as new."""
        if not (self._slides or self._tracks):
            fields = ("first_seen_at", "last_seen_at", "expires_at", "hits")
            renewed = ", ".join(f"{field} = EXCLUDED.{field}" for field in fields)
            return f"{renewed} WHERE entry.expires_at <= EXCLUDED.first_seen_at"
        later = "CASE WHEN entry.{0} > EXCLUDED.{0} THEN entry.{0} ELSE EXCLUDED.{0} END"
        values = {
            "first_seen_at": "entry.first_seen_at",
            "last_seen_at": later.format("last_seen_at"),
            "expires_at": later.format("expires_at") if self._slides else "entry.expires_at",
            "hits": "entry.hits + 1",
        }
        return ", ".join(
            f"{field} = CASE WHEN entry.expires_at <= EXCLUDED.first_seen_at THEN EXCLUDED.{field} ELSE {value} END"
            for field, value in values.items()
        )

    def _count(self, repeated: dict[bytes, int]) -> None:
        """Count the repetitions within one call, whose rows are locked by now."""
        for digest, count in sorted(repeated.items()):
            sql = f"UPDATE {self._table} SET hits = hits + %s WHERE digest = %s"
            with self._connection.cursor() as cursor:
                cursor.execute(sql, (count, digest))

    def _run(self, sql: str, *parts: Expression) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, [value for part in parts for value in part.params])
            return list(cursor.fetchall())


def _batches(digests: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(digests), BATCH):
        yield digests[start : start + BATCH]

"""Events in time: what each kind of window must accept of them, hour by hour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db import connection, transaction

from django_idempotency.writes import DedupWindow

START = datetime(2026, 3, 1, 6, tzinfo=UTC)
DAY = timedelta(hours=24)
IN_ORDER = (0, 1, 11.9, 12.1, 23.99, 24, 30, 48.1)
OUT_OF_ORDER = (10, 5, -13, -15)
PAUSES = (0, 23.99, 47.98, 71.97, 95.97, 119.96, 143.97)
#: Mode, hours in the order of arrival, and those that are accepted.
SEQUENCES = [
    ("fixed", IN_ORDER, [0, 24, 48.1]),
    ("fixed", OUT_OF_ORDER, [10]),
    ("fixed", PAUSES, [0, 47.98, 95.97, 143.97]),
    ("sliding", IN_ORDER, [0]),
    ("sliding", OUT_OF_ORDER, [10]),
    ("sliding", PAUSES, [0, 95.97, 143.97]),
    ("event_time", IN_ORDER, [0, 24, 48.1]),
    ("event_time", OUT_OF_ORDER, [10, -15]),
    ("event_time", (0, 48, 24, 23.99, 24.01, -24, -23.99, 72), [0, 48, 24, -24, 72]),
]

Accepts = Callable[[datetime], bool]


def moment(hours: float) -> datetime:
    """Return a moment so many hours after the start, which is not at midnight."""
    return START + timedelta(hours=hours)


def accepted(accepts: Accepts, hours: Iterable[float]) -> list[float]:
    """Let events arrive, each in a transaction of its own; return those that were accepted."""
    kept = []
    for hour in hours:
        with transaction.atomic():
            if accepts(moment(hour)):
                kept.append(hour)
    return kept


def window_accepts(mode: Any) -> Accepts:
    """Return what one window of 24 hours says of one payload."""
    window = DedupWindow("sequence", ttl=DAY, fields=["id"], mode=mode)
    return lambda at: window.first({"id": 1}, at=at)


def bucket_accepts(at: datetime) -> bool:
    """Accept once a day of the calendar, as a unique key with a rounded time does: the negative control."""
    bucket = int(at.timestamp() // DAY.total_seconds())
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS buckets (id integer, bucket bigint, PRIMARY KEY (id, bucket))")
        cursor.execute("INSERT INTO buckets VALUES (1, %s) ON CONFLICT DO NOTHING", [bucket])
        return bool(cursor.rowcount)


def gaps_are_kept(hours: Iterable[float]) -> bool:
    """Tell whether no two accepted events are closer than a day."""
    ordered = sorted(hours)
    return all(later - earlier >= 24 for earlier, later in pairwise(ordered))

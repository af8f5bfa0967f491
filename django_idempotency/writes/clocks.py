"""Moments in SQL: the database's clock on PostgreSQL, that of the host on SQLite, or a time that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

#: How many rows a statement takes: enough to be rid of the round trips, few enough for SQLite's parser.
BATCH = 500


@dataclass(frozen=True, slots=True)
class Expression:
    """A piece of SQL and its parameters."""

    sql: str
    params: tuple[Any, ...] = ()


def moments(connection: BaseDatabaseWrapper, at: datetime | None, ttl: timedelta) -> tuple[Expression, Expression]:
    """Return ``at``, or now, and the end of the ttl; it is exact, whatever a day is where clocks are changed."""
    if connection.vendor != "postgresql":
        now = at or datetime.now(UTC)
        start, end = column_time(connection, now), column_time(connection, now + ttl)
        return Expression("%s", (start,)), Expression("%s", (end,))
    if at is not None:
        return Expression("%s::timestamptz", (at,)), Expression("%s::timestamptz", (at + ttl,))
    clock = "statement_timestamp()"
    return Expression(clock), Expression(f"{clock} + make_interval(secs => %s)", (ttl.total_seconds(),))


def column_time(connection: BaseDatabaseWrapper, value: datetime) -> Any:
    """Return a moment as SQLite keeps it: text that sorts by time."""
    if not django_settings.USE_TZ:
        value = timezone.make_naive(value, timezone.get_default_timezone())
    return connection.ops.adapt_datetimefield_value(value)


def digest_rows(connection: BaseDatabaseWrapper, digests: Sequence[bytes]) -> Expression:
    """Return a query of one column that yields the digests."""
    if connection.vendor == "postgresql":
        return Expression("SELECT unnest(%s::bytea[])", (list(digests),))
    return Expression(f"VALUES {', '.join(['(%s)'] * len(digests))}", tuple(digests))


def is_one_of(connection: BaseDatabaseWrapper, digests: Sequence[bytes]) -> Expression:
    """Return the rest of a condition: a column is one of the digests."""
    if connection.vendor == "postgresql":
        return Expression("= ANY(%s::bytea[])", (list(digests),))
    return Expression(f"IN ({', '.join(['%s'] * len(digests))})", tuple(digests))

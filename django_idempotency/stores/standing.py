"""How many records there are and what waits, for a monitor: a few statements that stay fast on large tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connections
from django.db.models import Count, Min, Q
from django.utils import timezone

from django_idempotency.conf import settings
from django_idempotency.stores import get_store
from django_idempotency.stores.models import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a database holds now. Ages are in seconds.

    ``records`` counts by status; how many are completed is an estimate of PostgreSQL. ``stuck`` are those whose lease
    has lapsed. ``oldest_waiting`` is the age of the oldest that is not completed, by status, and ``purge_lag`` how long
    ago the oldest record expired that is still there, 0 where none has.
    """

    database: str
    records: dict[str, int]
    stuck: int
    oldest_waiting: dict[str, float]
    purge_lag: float


def databases() -> list[str]:
    """Return the aliases of the databases that stores keep records in."""
    return sorted({alias for alias in (get_store(name).alias for name in settings.STORES) if alias is not None})


def standings() -> Iterator[Standing]:
    """Look at each database. Raises DatabaseError."""
    for alias in databases():
        yield standing_of(alias)


def standing_of(alias: str) -> Standing:
    """Look at one database. Raises DatabaseError."""
    now = timezone.now()
    waiting = list(
        Record.objects.using(alias)
        .exclude(status=Record.Status.COMPLETED)  # as the partial index has it
        .values("status")
        .annotate(count=Count("id"), oldest=Min("created_at"), lapsed=Count("id", Q(lease_expires_at__lte=now)))
    )
    counts = dict.fromkeys(Record.Status.values, 0) | {row["status"]: row["count"] for row in waiting}
    counts[Record.Status.COMPLETED] = max(_count(alias) - sum(counts.values()), 0)
    return Standing(
        database=alias,
        records=counts,
        stuck=sum(row["lapsed"] for row in waiting if row["status"] == Record.Status.IN_PROGRESS),
        oldest_waiting={row["status"]: _age(row["oldest"], now) for row in waiting},
        purge_lag=_age(_oldest_expiry(alias), now),
    )


def _count(alias: str) -> int:
    """Return the number of records: on PostgreSQL the estimate of its last ANALYZE, if there was one."""
    if connections[alias].vendor == "postgresql":
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [Record._meta.db_table])
            (estimate,) = cursor.fetchone()
        if estimate > 0:
            return int(estimate)
    return Record.objects.using(alias).count()


def _oldest_expiry(alias: str) -> datetime | None:
    completed = Record.objects.using(alias).filter(status=Record.Status.COMPLETED)
    return completed.order_by("expires_at").values_list("expires_at", flat=True).first()


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max((now - moment).total_seconds(), 0.0)

"""Hourly sums: recounted rather than added to, so that a count made twice is the same count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db import connections, models, transaction
from django.db.models import Count, F, Max, Q, Sum
from django.db.models.functions import Coalesce, TruncHour
from django.utils import timezone

from django_idempotency.audit.figures import REQUESTS
from django_idempotency.audit.models import AuditEvent
from django_idempotency.audit.rollups import DURATION_BOUNDS, Rollup
from django_idempotency.conf import settings

HOUR = timedelta(hours=1)
#: How far back what has been summed up is counted again: an event may be committed later than it is dated.
_OVERLAP = 2 * HOUR
#: The outcomes of requests and of rows; what somebody has decided is none.
_OUTCOMES = (*REQUESTS, "unknown", "expired", "inserted", "updated", "unchanged", "stale")

Name = tuple[datetime, str, str, str]


@dataclass(slots=True)
class HourlySum:
    """How often, and how long it took: in all, and how many by class of duration."""

    count: int = 0
    duration_sum: float = 0.0
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS) + 1))

    def add(self, other: HourlySum) -> None:
        """Add what was counted elsewhere."""
        self.count += other.count
        self.duration_sum += other.duration_sum
        self.durations = [mine + more for mine, more in zip(self.durations, other.durations, strict=True)]


Counter = Callable[[str, datetime], Iterable[tuple[Name, HourlySum]]]


def roll_up(using: str, *others: Counter, since: datetime | None = None) -> int:
    """Sum up every hour from this one on, by default from where the last time ended; return how many rows that makes.

    ``others`` count what has no audit event: each takes the database alias and the hour to begin with.
    """
    alias = connections[using]
    with transaction.atomic(using=using, durable=True):
        if alias.vendor == "postgresql":
            with alias.cursor() as cursor:  # what a purge moves meanwhile is counted once
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        start = _start(using, since)
        sums: dict[Name, HourlySum] = {}
        for count in (count_events, *others):
            for name, found in count(using, start):
                sums.setdefault(name, HourlySum()).add(found)
        return _write(using, start, sums)


def _start(using: str, since: datetime | None) -> datetime:
    """Return the hour to begin with: nothing is counted again of which a purge may have taken a part."""
    last = Rollup.objects.using(using).aggregate(last=Max("hour"))["last"]
    begin = timezone.now() - settings.audit_ttl - HOUR if last is None else last - _OVERLAP
    return floor_hour(min(begin, since) if since else begin)


def _write(using: str, start: datetime, sums: dict[Name, HourlySum]) -> int:
    """Replace what is there unless that is more: then a part of it has been purged since."""
    rows = Rollup.objects.using(using)
    there = {(row.hour, row.layer, row.operation, row.outcome): row.count for row in rows.filter(hour__gte=start)}
    grown = [(name, found) for name, found in sums.items() if found.count > there.get(name, 0)]
    rows.bulk_create(
        [
            Rollup(
                hour=hour,
                layer=layer,
                operation=operation,
                outcome=outcome,
                count=found.count,
                duration_sum=found.duration_sum,
                durations=found.durations,
            )
            for (hour, layer, operation, outcome), found in sorted(grown)
        ],
        update_conflicts=True,
        unique_fields=["hour", "layer", "operation", "outcome"],
        update_fields=["count", "duration_sum", "durations"],
    )
    return len(grown)


def count_events(using: str, start: datetime) -> Iterator[tuple[Name, HourlySum]]:
    """Count the audit events of each hour."""
    events = AuditEvent.objects.using(using).filter(at__gte=start, event__in=_OUTCOMES)
    yield from by_hour(events, at="at", count=Sum("count"), layer=F("layer"), outcome=F("event"))


def by_hour(
    rows: models.QuerySet[Any], *, at: str, count: Any, layer: Any, outcome: Any
) -> Iterator[tuple[Name, HourlySum]]:
    """Count rows by hour, layer, operation and outcome; they have ``operation`` and ``duration``."""
    classes = {f"upto_{number}": Count("pk", Q(duration__lte=bound)) for number, bound in enumerate(DURATION_BOUNDS)}
    named = rows.order_by().values(
        _hour=TruncHour(at, tzinfo=UTC), _layer=layer, _operation=F("operation"), _outcome=outcome
    )
    for row in named.annotate(_count=count, _sum=Coalesce(Sum("duration"), 0.0), _timed=Count("duration"), **classes):
        upto = [0, *(row[name] for name in classes), row["_timed"]]
        durations = [more - less for less, more in pairwise(upto)]
        name = (_aware(row["_hour"]), row["_layer"], row["_operation"], row["_outcome"])
        yield name, HourlySum(row["_count"], row["_sum"], durations)


def floor_hour(moment: datetime) -> datetime:
    """Return when the hour of a moment began."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _aware(moment: datetime) -> datetime:
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment, UTC)

"""How often each outcome came: from the hourly sums, and of the hours since from the rows themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Case, Count, IntegerField, QuerySet, Sum, When
from django.db.models.functions import TruncHour

from django_idempotency.audit.figures import DUPLICATES, REQUESTS
from django_idempotency.audit.rollups import DURATION_BOUNDS
from django_idempotency.models import AuditEvent, Record, Rollup

#: Rows of each table that are counted one by one, the newest.
COUNTED_RAW = 10_000
#: The newest sums that durations are taken from: their classes are costly to add up over a month.
TIMED = timedelta(hours=24)

_CLASS = Case(
    *(When(duration__lte=bound, then=number) for number, bound in enumerate(DURATION_BOUNDS)),
    When(duration__gt=DURATION_BOUNDS[-1], then=len(DURATION_BOUNDS)),
    output_field=IntegerField(),
)


@dataclass(slots=True, kw_only=True)
class Sums:
    """How often each outcome came, by hour and by operation, and how long executions took.

    ``summed_until`` is the newest hourly sum. ``counted_from`` is where the count of raw rows had to begin, if they
    were too many. ``durations`` are numbers of executions by the classes of DURATION_BOUNDS.
    """

    by_hour: Counter[tuple[datetime, str]] = field(default_factory=Counter)
    by_operation: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS) + 1))
    summed_until: datetime | None = None
    counted_from: datetime | None = None

    def count(self, hour: datetime, operation: str, outcome: str, number: int) -> None:
        """Add what came of an operation within an hour."""
        self.by_hour[hour, outcome] += number
        self.by_operation[operation, outcome] += number

    def total(self, *outcomes: str) -> int:
        """Return how often any of these outcomes came."""
        return sum(number for (_operation, outcome), number in self.by_operation.items() if outcome in outcomes)

    @property
    def rate(self) -> float | None:
        """The share of duplicates in the requests, None where there were none."""
        requests = self.total(*REQUESTS)
        return self.total(*DUPLICATES) / requests if requests else None

    def took(self, classes: Sequence[int]) -> None:
        """Add executions by the classes of their durations."""
        for number, count in enumerate(classes[: len(self.durations)]):
            self.durations[number] += count

    def quantile(self, share: float) -> float | None:
        """Return the upper bound, in seconds, of the class that holds this share of executions; infinity for the last.

        None where nothing was executed.
        """
        wanted, seen = share * sum(self.durations), 0
        for bound, count in zip((*DURATION_BOUNDS, float("inf")), self.durations, strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return None


def read_sums(alias: str, since: datetime) -> Sums:
    """Return what happened since a time, in ten statements at most, each bounded.

    The newest hour that was summed up may have gone on since, so its rows are counted; if they are too many, its sum.
    """
    newest = Rollup.objects.using(alias).order_by("-hour").values_list("hour", flat=True).first()
    start = max(since, newest) if newest else since
    records, events = _raws(alias, start)
    if newest and (records.bound or events.bound):
        start = max(since, newest + timedelta(hours=1))
        records, events = _raws(alias, start)
    sums = Sums(
        summed_until=newest,
        counted_from=max((raw.bound for raw in (records, events) if raw.bound), default=None),
    )
    if newest and start > since:
        _add_summed(sums, Rollup.objects.using(alias).filter(hour__gte=since, hour__lt=start), start)
    _add_records(sums, records)
    _add_events(sums, events)
    return sums


def _raws(alias: str, since: datetime) -> tuple[_Raw, _Raw]:
    records = _Raw(rows=QuerySet(Record, using=alias), field="completed_at", since=since)
    return records, _Raw(rows=QuerySet(AuditEvent, using=alias), field="at", since=since)


class _Raw:
    """The newest rows since a time."""

    def __init__(self, *, rows: QuerySet[Any], field: str, since: datetime) -> None:
        within = rows.filter(**{f"{field}__gte": since})
        stretch = within.order_by(f"-{field}").values_list(field, flat=True)[COUNTED_RAW : COUNTED_RAW + 1]
        self.bound: datetime | None = next(iter(stretch), None)
        self.rows = within.filter(**{f"{field}__gt": self.bound}) if self.bound else within


def _hour(name: str) -> TruncHour:
    """Return the hour as the sums have it, wherever the reader lives."""
    return TruncHour(name, tzinfo=UTC if settings.USE_TZ else None)


def _add_summed(sums: Sums, rollups: QuerySet[Rollup], until: datetime) -> None:
    requests = rollups.filter(outcome__in=REQUESTS).order_by()
    for hour, outcome, number in requests.values_list("hour", "outcome").annotate(Sum("count")):
        sums.by_hour[hour, outcome] += number
    for operation, outcome, number in requests.values_list("operation", "outcome").annotate(Sum("count")):
        sums.by_operation[operation, outcome] += number
    timed = rollups.filter(outcome="executed", hour__gte=until - TIMED).order_by()
    for classes in timed.values_list("durations", flat=True):
        sums.took(classes)


def _add_records(sums: Sums, raw: _Raw) -> None:
    rows = raw.rows.order_by().annotate(hour=_hour("completed_at"), duration_class=_CLASS)
    fields = ("hour", "operation", "duration_class")
    for hour, operation, number, count in rows.values_list(*fields).annotate(Count("pk")):
        sums.count(hour, operation, "executed", count)
        if number is not None:
            sums.durations[number] += count


def _add_events(sums: Sums, raw: _Raw) -> None:
    rows = raw.rows.filter(event__in=REQUESTS).order_by().annotate(hour=_hour("at"))
    for row in rows.values("hour", "operation", "event").annotate(total=Sum("count")):
        sums.count(row["hour"], row["operation"], row["event"], row["total"])

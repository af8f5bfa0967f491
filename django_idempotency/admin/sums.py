"""How often each outcome came: from the hourly sums, and of the hours since from the rows themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncHour

from django_idempotency.audit.rollups import DURATION_BOUNDS
from django_idempotency.models import AuditEvent, Record, Rollup

#: Rows of each table that are counted one by one, the newest.
COUNTED_RAW = 20_000
#: The outcomes that requests add up to, as the invariant of the audit has it.
REQUESTS = ("executed", "replayed", "in_progress", "mismatch", "rejected", "failed")
#: Those that ask for what has been done or is being done already.
DUPLICATES = ("replayed", "in_progress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often an outcome came of an operation within an hour; ``durations`` by the classes of DURATION_BOUNDS."""

    hour: datetime
    operation: str
    outcome: str
    count: int
    durations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Tallies since a time. ``counted_from`` is where the count of raw rows had to begin, if they were too many."""

    tallies: list[Tally]
    summed_until: datetime | None
    counted_from: datetime | None = None

    def total(self, *outcomes: str, operation: str | None = None) -> int:
        """Return how often any of these outcomes came."""
        return sum(
            one.count
            for one in self.tallies
            if one.outcome in outcomes and (operation is None or one.operation == operation)
        )

    def rate(self, operation: str | None = None) -> float | None:
        """Return the share of duplicates in the requests, None where there were none."""
        requests = self.total(*REQUESTS, operation=operation)
        return self.total(*DUPLICATES, operation=operation) / requests if requests else None

    def quantile(self, share: float) -> float | None:
        """Return the upper bound, in seconds, of the class that holds this share of durations; infinity for the last.

        None where nothing was executed.
        """
        counts = [sum(column) for column in zip(*(one.durations for one in self.tallies if one.durations), strict=True)]
        wanted, seen = share * sum(counts), 0
        for bound, count in zip((*DURATION_BOUNDS, float("inf")), counts, strict=False):
            seen += count
            if count and seen >= wanted:
                return bound
        return None


def read_sums(alias: str, since: datetime) -> Sums:
    """Return what happened since a time, in six statements at most, each bounded."""
    summed = Rollup.objects.using(alias).filter(outcome__in=REQUESTS)
    newest = Rollup.objects.using(alias).order_by("-hour").values_list("hour", flat=True).first()
    start = max(since, newest) if newest else since
    records = _Raw(rows=QuerySet(Record, using=alias), field="completed_at", since=start)
    events = _Raw(rows=QuerySet(AuditEvent, using=alias), field="at", since=start)
    tallies = [*(_summed(summed.filter(hour__gte=since, hour__lt=start)) if newest else ())]
    tallies += [*_records(records), *_events(events)]
    return Sums(
        tallies=tallies,
        summed_until=newest,
        counted_from=max((raw.bound for raw in (records, events) if raw.bound), default=None),
    )


class _Raw:
    """The newest rows since a time."""

    def __init__(self, *, rows: QuerySet[Any], field: str, since: datetime) -> None:
        within = rows.filter(**{f"{field}__gte": since})
        stretch = within.order_by(f"-{field}").values_list(field, flat=True)[COUNTED_RAW : COUNTED_RAW + 1]
        self.bound: datetime | None = next(iter(stretch), None)
        self.rows = within.filter(**{f"{field}__gt": self.bound}) if self.bound else within


def _summed(rollups: QuerySet[Rollup]) -> Iterator[Tally]:
    fields = ("hour", "operation", "outcome")
    for row in rollups.order_by().values(*fields).annotate(total=Sum("count")):
        yield Tally(**{name: row[name] for name in fields}, count=row["total"])
    for durations in rollups.filter(outcome="executed").order_by("-hour").values_list("hour", "operation", "durations"):
        hour, operation, classes = durations
        if classes:
            yield Tally(hour=hour, operation=operation, outcome="executed", count=0, durations=tuple(classes))


def _records(raw: _Raw) -> Iterator[Tally]:
    classes = {f"class_{number}": Count("pk", filter=condition) for number, condition in enumerate(_classes())}
    rows = raw.rows.order_by().annotate(hour=TruncHour("completed_at")).values("hour", "operation")
    for row in rows.annotate(total=Count("pk"), **classes):
        durations = tuple(row[name] for name in classes)
        yield Tally(
            hour=row["hour"], operation=row["operation"], outcome="executed", count=row["total"], durations=durations
        )


def _classes() -> Iterable[Q]:
    lower = None
    for bound in DURATION_BOUNDS:
        yield Q(duration__lte=bound) & (Q(duration__gt=lower) if lower is not None else Q())
        lower = bound
    yield Q(duration__gt=lower)


def _events(raw: _Raw) -> Iterator[Tally]:
    rows = raw.rows.filter(event__in=REQUESTS).order_by().annotate(hour=TruncHour("at"))
    for row in rows.values("hour", "operation", "event").annotate(total=Sum("count")):
        yield Tally(hour=row["hour"], operation=row["operation"], outcome=row["event"], count=row["total"])

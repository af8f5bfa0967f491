"""Charts as geometry: what a template draws as SVG, with the same figures as a table beneath."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.sums import Sums

HEIGHT, STEP = 160, 12
#: What is stacked, from the bottom: the outcomes of each series.
SERIES: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("executed", _("executed"), ("executed",)),
    ("replayed", _("replayed"), ("replayed",)),
    ("conflicts", _("conflicts"), ("in_progress",)),
    ("mismatches", _("mismatches"), ("mismatch",)),
    ("refused", _("rejected or failed"), ("rejected", "failed")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle of a chart, in its units."""

    kind: str
    label: Any
    count: int
    x: int
    y: float
    width: int
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A span of time with its bars, and its counts in the order of SERIES."""

    start: datetime
    bars: list[Bar]
    counts: list[int]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Slots from old to new. ``is_daily`` says that each is a day, else an hour."""

    slots: list[Slot]
    highest: int
    is_daily: bool
    width: int
    height: int = HEIGHT

    @property
    def labels(self) -> list[Any]:
        """The names of the series."""
        return [(kind, label) for kind, label, _outcomes in SERIES]


def chart(sums: Sums, since: datetime, until: datetime) -> Chart:
    """Stack the outcomes by hour, or by day where hours would be too narrow."""
    is_daily = until - since > timedelta(days=8)
    starts = _starts(since, until, is_daily)
    counts: Counter[tuple[datetime, str]] = Counter()
    for (hour, outcome), number in sums.by_hour.items():
        counts[_start(hour, is_daily), outcome] += number
    totals = [[sum(counts[start, one] for one in outcomes) for _k, _l, outcomes in SERIES] for start in starts]
    highest = max(map(sum, totals), default=0)
    slots = [_slot(number, start, totals[number], highest) for number, start in enumerate(starts)]
    return Chart(slots=slots, highest=highest, is_daily=is_daily, width=STEP * len(starts))


def _starts(since: datetime, until: datetime, is_daily: bool) -> list[datetime]:
    starts, moment = [], _start(since, is_daily)
    while moment <= until:
        starts.append(moment)
        moment = _start(moment + (timedelta(hours=36) if is_daily else timedelta(hours=1)), is_daily)
    return starts


def _start(moment: datetime, is_daily: bool) -> datetime:
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    local = local.replace(minute=0, second=0, microsecond=0)
    return local.replace(hour=0) if is_daily else local


def _slot(number: int, start: datetime, counts: list[int], highest: int) -> Slot:
    bars, top = [], float(HEIGHT)
    for (kind, label, _outcomes), count in zip(SERIES, counts, strict=True):
        height = round(HEIGHT * count / highest, 2) if highest else 0.0
        top -= height
        if count:
            x = STEP * number + 1
            bars.append(Bar(kind=kind, label=label, count=count, x=x, y=round(top, 2), width=STEP - 2, height=height))
    return Slot(start=start, bars=bars, counts=counts, total=sum(counts))

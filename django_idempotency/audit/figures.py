"""What can be counted about requests: the hourly sums, and of the hours since the events themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum

from django_idempotency.audit.models import AuditEvent
from django_idempotency.audit.rollups import Rollup

#: What requests add up to.
REQUESTS = ("executed", "replayed", "in_progress", "mismatch", "rejected", "failed")
#: Those of them that ask for what was done, or is being done, already.
DUPLICATES = ("replayed", "in_progress")
#: What may come of a request besides, or in the course of it.
_ASIDE = ("taken_over", "unknown", "expired", "fenced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often each outcome came, by operation and outcome."""

    counts: Mapping[tuple[str, str], int]

    @property
    def outcomes(self) -> dict[str, int]:
        """How often each outcome came, of all operations."""
        sums: Counter[str] = Counter()
        for (_, outcome), count in self.counts.items():
            sums[outcome] += count
        return dict(sums)

    def of(self, operation: str) -> dict[str, int]:
        """Return how often each outcome came of one operation."""
        return {outcome: count for (named, outcome), count in self.counts.items() if named == operation}

    def plus(self, outcome: str, counts: Mapping[str, int]) -> Tally:
        """Return a tally with that much more of an outcome, by operation: what no event tells of, since records do."""
        added = Counter({(operation, outcome): count for operation, count in counts.items()})
        return Tally(counts=Counter(self.counts) + added)

    def by_operation(self) -> dict[str, float]:
        """Return the share of duplicates in the requests of each operation, the largest first."""
        rates = {operation: duplicate_rate(self.of(operation)) for operation, _ in self.counts}
        told = [(name, rate) for name, rate in rates.items() if rate is not None]
        return dict(sorted(told, key=lambda pair: -pair[1]))


def duplicate_rate(outcomes: Mapping[str, int]) -> float | None:
    """Return the share of duplicates in the requests, None where there were none."""
    requests = sum(outcomes.get(outcome, 0) for outcome in REQUESTS)
    return sum(outcomes.get(outcome, 0) for outcome in DUPLICATES) / requests if requests else None


def summed_until(alias: str, since: datetime) -> datetime:
    """Return from when on events are to be counted one by one: from the newest hour that was summed, or from then."""
    newest = Rollup.objects.using(alias).filter(hour__gt=since).order_by("-hour").values_list("hour", flat=True).first()
    return newest or since


def answered(alias: str, since: datetime, until: datetime) -> Tally:
    """Return what the hourly sums tell up to a time, and the events from then on. Both times are as above.

    What was executed is told by the sums; afterwards by the records and those events that stand for records no more.
    """
    sums = Rollup.objects.using(alias).filter(hour__gte=since, hour__lt=until, outcome__in=(*REQUESTS, *_ASIDE))
    events = AuditEvent.objects.using(alias).filter(at__gte=until, event__in=(*REQUESTS, *_ASIDE))
    counts: Counter[tuple[str, str]] = Counter()
    for operation, outcome, total in sums.values_list("operation", "outcome").annotate(total=Sum("count")).order_by():
        counts[operation, outcome] += total
    for operation, outcome, total in events.values_list("operation", "event").annotate(total=Sum("count")).order_by():
        counts[operation, outcome] += total
    return Tally(counts=counts)

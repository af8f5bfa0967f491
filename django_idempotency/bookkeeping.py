"""Closes the books: counts that stores have put aside are written down, and every hour is summed up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Case, Count, Value, When

from django_idempotency.audit.draining import append_tallies
from django_idempotency.audit.sums import HourlySum, Name, by_hour, roll_up
from django_idempotency.audit.writing import append_waiting
from django_idempotency.conf import settings
from django_idempotency.core.layers import JOB_RAISED, JOB_SCOPE
from django_idempotency.stores import get_store
from django_idempotency.stores.models import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What came of it: answers that were counted aside, and rows of hourly sums."""

    drained: int
    sums: int


def close_books(using: str) -> Closing:
    """Drain the stores on a database and sum up its hours. May be repeated, and run by several at once."""
    drained, since = 0, None
    append_waiting(using)
    for alias in settings.STORES:
        store = get_store(alias)
        if store.alias == using:
            for tallies in store.drain():
                drained += append_tallies(using, tallies)
                since = min((tally.at for tally in tallies.counted), default=since)
    return Closing(drained=drained, sums=roll_up(using, count_executions, since=since))


def count_executions(using: str, start: datetime) -> Iterator[tuple[Name, HourlySum]]:
    """Count the records of what was executed in each hour: while they are there, they are its audit."""
    records = Record.objects.using(using).filter(completed_at__gte=start, status="completed")
    executed = records.exclude(scope__startswith=JOB_SCOPE, response_status=JOB_RAISED)  # has an event: it has failed
    layer = Case(When(scope__startswith=JOB_SCOPE, then=Value("jobs")), default=Value("http"))
    yield from by_hour(executed, at="completed_at", count=Count("pk"), layer=layer, outcome=Value("executed"))

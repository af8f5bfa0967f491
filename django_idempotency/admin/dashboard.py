"""The figures above the application's index, each read at a bounded cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections, router
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.http import urlencode

from django_idempotency import retention
from django_idempotency.admin.charts import Chart, chart
from django_idempotency.admin.filters import WINDOWS, window_start
from django_idempotency.admin.limits import limited
from django_idempotency.admin.sums import COUNTED_RAW, Sums, read_sums
from django_idempotency.admin.walks import COUNTED, estimate
from django_idempotency.audit.figures import DUPLICATES, REQUESTS
from django_idempotency.models import AuditEvent, Record
from django_idempotency.stores.sightings import clock

_TOP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Capped:
    """A number of rows, or that there are more than anybody counts."""

    count: int

    @property
    def is_more(self) -> bool:
        """Whether the count was given up."""
        return self.count > COUNTED

    @property
    def shown(self) -> int:
        """The number to show."""
        return min(self.count, COUNTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The duplicates among the requests for one operation; ``rate`` in percent."""

    operation: str
    requests: int
    duplicates: int
    rate: float

    @property
    def query(self) -> str:
        """The query string of the list of its records."""
        return urlencode({"operation": self.operation})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """All that is shown."""

    window: str
    chart: Chart
    requests: int
    prevented: int
    rate: float | None
    p50: float | None
    p95: float | None
    rates: list[Rate]
    stuck: Capped
    unknown: Capped
    oldest: datetime | None
    expired: Capped
    records: int | None
    size: int
    summed_until: datetime | None
    counted_from: datetime | None
    limit: int = COUNTED_RAW


def read(window: str) -> Dashboard:
    """Read the figures of a window (a key of WINDOWS). Raises TookTooLong."""
    alias = router.db_for_write(Record)
    since = window_start(window if window in WINDOWS else "24h")
    assert since is not None
    with limited(alias):
        sums = read_sums(alias, since)
        return Dashboard(
            window=window,
            chart=chart(sums, since, timezone.now()),
            **_rates(sums),
            **_state(alias),
            summed_until=sums.summed_until,
            counted_from=sums.counted_from,
        )


def _rates(sums: Sums) -> dict[str, Any]:
    rate = sums.rate
    return {
        "requests": sums.total(*REQUESTS),
        "prevented": sums.total(*DUPLICATES),
        "rate": None if rate is None else 100 * rate,
        "p50": _milliseconds(sums.quantile(0.5)),
        "p95": _milliseconds(sums.quantile(0.95)),
        "rates": by_operation(sums),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def by_operation(sums: Sums) -> list[Rate]:
    """Return the operations with the most duplicates."""
    counts: dict[str, list[int]] = {}
    for (operation, outcome), number in sums.by_operation.items():
        if outcome in REQUESTS:
            found = counts.setdefault(operation, [0, 0])
            found[0] += number
            found[1] += number if outcome in DUPLICATES else 0
    rates = [
        Rate(operation=name, requests=requests, duplicates=duplicates, rate=100 * duplicates / requests)
        for name, (requests, duplicates) in counts.items()
        if requests
    ]
    return sorted(rates, key=lambda one: (-one.duplicates, one.operation))[:_TOP]


def _state(alias: str) -> dict[str, Any]:
    now = clock(alias)
    records = Record.objects.using(alias)
    waiting = records.exclude(status=Record.Status.COMPLETED)
    live = records.filter(expires_at__gt=now).order_by("expires_at")
    return {
        "stuck": capped(waiting.filter(status=Record.Status.IN_PROGRESS, lease_expires_at__lte=now)),
        "unknown": capped(waiting.filter(status=Record.Status.UNKNOWN)),
        "oldest": live.values_list("created_at", flat=True).first(),
        "expired": capped(records.filter(Q(expires_at__lte=now))),
        "records": estimate(Record, alias),
        "size": _size(alias),
    }


def capped(rows: QuerySet[Any]) -> Capped:
    """Count no further than a person cares."""
    return Capped(count=rows.order_by().values("pk")[: COUNTED + 1].count())


def _size(alias: str) -> int:
    """Return the bytes of the tables with their indexes; of the whole file on SQLite."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            names = [connection.ops.quote_name(model._meta.db_table) for model in (Record, AuditEvent)]
            cursor.execute(
                "SELECT sum(pg_total_relation_size(to_regclass(name)))::bigint FROM unnest(%s::text[]) AS name", [names]
            )
        else:
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        row = cursor.fetchone()
    return int(row[0] or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a purge would delete now of one table."""

    name: str
    label: Any
    alias: str
    expired: Capped


def purge_preview() -> list[Preview]:
    """Return what a purge would delete now, table by table, counting no further than a person cares."""
    found = []
    for one in retention.registered():
        for alias in one.databases():
            with limited(alias):
                expired = capped(one.expired(alias).using(alias))
            found.append(
                Preview(name=one.name, label=one.model._meta.verbose_name_plural, alias=alias, expired=expired)
            )
    return found


def may_see(user: Any) -> bool:
    """Tell whether a user sees the figures, which are of all tenants: by the permission to view hourly sums."""
    return bool(user.has_perm("idempotency.view_rollup"))

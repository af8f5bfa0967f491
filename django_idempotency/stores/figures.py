"""What can be counted about records, for less than a look at each of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db import connections, models
from django.db.models import Count, ExpressionWrapper, F, Max, Q, QuerySet
from django.db.models.fields import DurationField

from django_idempotency.stores.models import Record
from django_idempotency.stores.sightings import clock, records

#: What is more than this is not counted one by one.
CAP = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number of rows: ``exact``, an ``estimate`` of the planner, or ``at_least`` so many."""

    rows: int
    kind: Literal["exact", "estimate", "at_least"] = "exact"

    def __str__(self) -> str:
        return {"exact": "", "estimate": "about ", "at_least": "more than "}[self.kind] + str(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the records of a database stand now. Ages are by its clock, None where there is no such record."""

    total: Amount
    in_progress: Amount
    released: Amount
    unknown: Amount
    lapsed: Amount
    oldest_waiting: timedelta | None
    oldest_expired: timedelta | None


def standing(alias: str) -> Standing:
    """Look at the records that are not completed, at the oldest expired one, and at the size of the rest."""
    rows = records(alias)
    waiting = rows.exclude(status="completed")
    stuck = waiting.filter(Q(status="in_progress", has_lapsed=True))
    counts = {status: capped(waiting.filter(status=status)) for status in ("in_progress", "released", "unknown")}
    return Standing(
        total=total(alias, Record),
        lapsed=capped(stuck),
        oldest_waiting=(waiting.filter(status="unknown") | stuck).aggregate(oldest=Max("age"))["oldest"],
        oldest_expired=oldest_expired(alias),
        **counts,
    )


def oldest_expired(alias: str) -> timedelta | None:
    """Return for how long the oldest expired record has been so, by the database's clock."""
    now = clock(alias)
    expired = records(alias).filter(status="completed", expires_at__lte=now).order_by("expires_at")
    ages = expired.annotate(expired_for=ExpressionWrapper(now - F("expires_at"), DurationField()))
    return ages.values_list("expired_for", flat=True).first()


def executed(alias: str, since: datetime) -> dict[str, int]:
    """Return how many operations were completed since then, by operation, as far as their records are still there."""
    rows = Record.objects.using(alias).filter(completed_at__gte=since).order_by()
    return dict(rows.values_list("operation").annotate(count=Count("id")))


def capped(rows: QuerySet[Any, Any]) -> Amount:
    """Count rows, but not beyond the cap."""
    found = rows.order_by().values("pk")[: CAP + 1].count()
    return Amount(rows=CAP, kind="at_least") if found > CAP else Amount(rows=found)


def total(alias: str, model: type[models.Model]) -> Amount:
    """Return how many rows a table has: exactly if they are few, else as the database estimates it."""
    found = capped(model._default_manager.using(alias))
    if found.kind == "exact" or connections[alias].vendor != "postgresql":
        return found
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [_table(alias, model)])
        estimated = int(cursor.fetchone()[0])
    return Amount(rows=estimated, kind="estimate") if estimated > found.rows else found


def bytes_of(alias: str, model: type[models.Model]) -> int | None:
    """Return the size of a table with its indexes, None where the database does not tell."""
    if connections[alias].vendor != "postgresql":
        return None
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s::regclass)", [_table(alias, model)])
        return int(cursor.fetchone()[0])


def _table(alias: str, model: type[models.Model]) -> str:
    return connections[alias].ops.quote_name(model._meta.db_table)

"""Filters whose choices are fixed, or read along an index: none asks the whole table what there is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.admin import SimpleListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.models import AuditEvent, Record, Rollup
from django_idempotency.stores.sightings import clock

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    _Admin = ModelAdmin[Any]

WINDOWS = {
    "1h": (_("Last hour"), timedelta(hours=1)),
    "24h": (_("Last 24 hours"), timedelta(hours=24)),
    "7d": (_("Last 7 days"), timedelta(days=7)),
    "30d": (_("Last 30 days"), timedelta(days=30)),
}
DEFAULT_WINDOW = "24h"
ANY_TIME = "all"
_OPERATIONS_FROM = {"sums": 1000, "records": 200}


def window_start(name: str) -> datetime | None:
    """Return when a window begins, None if it has no beginning."""
    return None if name == ANY_TIME else timezone.now() - WINDOWS.get(name, WINDOWS[DEFAULT_WINDOW])[1]


class Choices(SimpleListFilter):
    """A filter that narrows a list down by conditions that are known beforehand."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Narrow the rows down; a value that is no choice matches nothing."""
        if not self.value():
            return queryset
        choices = {str(value) for value, _label in self.lookup_choices}
        return self.narrow(queryset, str(self.value())) if self.value() in choices else queryset.none()

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the rows down to a choice."""
        raise NotImplementedError


class WindowFilter(SimpleListFilter):
    """When: fixed ranges, 24 hours unless another is chosen. The walk obeys it, along the index."""

    title = _("time")
    parameter_name = "window"

    def lookups(self, request: HttpRequest, model_admin: _Admin) -> list[tuple[str, Any]]:
        """Return the ranges."""
        return [*((name, label) for name, (label, _length) in WINDOWS.items()), (ANY_TIME, _("Any time"))]

    def value(self) -> str:
        """Return the chosen range."""
        value = super().value()
        return str(value) if value in {*WINDOWS, ANY_TIME} else DEFAULT_WINDOW

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the ranges, of which one is always chosen."""
        for name, label in self.lookup_choices:
            yield {
                "selected": self.value() == name,
                "query_string": changelist.get_query_string({self.parameter_name: name}),
                "display": label,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Leave it to the walk."""
        return queryset


class OutcomeFilter(Choices):
    """What became of an operation, in the words of the audit."""

    title = _("outcome")
    parameter_name = "outcome"
    WAITING = frozenset({"in_progress", "stuck", "unknown", "released", "waiting"})

    def lookups(self, request: HttpRequest, model_admin: _Admin) -> list[tuple[str, Any]]:
        """Return the outcomes that a record can have."""
        return [
            ("executed", _("executed")),
            ("taken_over", _("taken over")),
            ("expired", _("expired")),
            ("in_progress", _("in progress")),
            ("stuck", _("stuck")),
            ("unknown", _("unknown")),
            ("released", _("released")),
            ("waiting", _("any that waits")),
        ]

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the records down; deadlines are judged by the database's clock."""
        now = clock(rows.db)
        conditions = {
            "executed": Q(status=Record.Status.COMPLETED),
            "taken_over": Q(attempt__gt=1, status=Record.Status.COMPLETED),
            "expired": Q(status=Record.Status.COMPLETED, expires_at__lte=now),
            "in_progress": Q(status=Record.Status.IN_PROGRESS),
            "stuck": Q(status=Record.Status.IN_PROGRESS, lease_expires_at__lte=now),
            "unknown": Q(status=Record.Status.UNKNOWN),
            "released": Q(status=Record.Status.RELEASED),
            "waiting": ~Q(status=Record.Status.COMPLETED),
        }
        return rows.filter(conditions[value])


class StatusClassFilter(Choices):
    """The class of the response."""

    title = _("response")
    parameter_name = "response"
    field = "response_status"

    def lookups(self, request: HttpRequest, model_admin: _Admin) -> list[tuple[str, Any]]:
        """Return the classes of HTTP."""
        return [(str(first), f"{first}xx") for first in range(2, 6)]

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the rows down to a hundred."""
        return rows.filter(**{f"{self.field}__gte": int(value) * 100, f"{self.field}__lt": int(value) * 100 + 100})


class EventStatusClassFilter(StatusClassFilter):
    """The class of the response that an event tells of."""

    field = "status"


class EventFilter(Choices):
    """What happened."""

    title = _("event")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: _Admin) -> list[tuple[Any, Any]]:
        """Return all events there can be."""
        return list(AuditEvent.Event.choices)

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the events down to one kind."""
        return rows.filter(event=value)


class OperationFilter(Choices):
    """Method and route. The choices are those of the newest sums and records."""

    title = _("operation")
    parameter_name = "operation"

    def lookups(self, request: HttpRequest, model_admin: _Admin) -> list[tuple[str, str]]:
        """Return the operations of late, and the one that is asked for."""
        asked = [request.GET[self.parameter_name]] if request.GET.get(self.parameter_name) else []
        return [(name, name) for name in sorted({*known_operations(model_admin.get_queryset(request).db), *asked})]

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the rows down to one operation."""
        return rows.filter(operation=value)


class ScopeFilter(Choices):
    """One scope, which a link or an exact search names: nobody lists them all."""

    title = _("scope")
    parameter_name = "scope"

    def lookups(self, request: HttpRequest, model_admin: _Admin) -> list[tuple[str, str]]:
        """Return the scope that is asked for."""
        asked = request.GET.get(self.parameter_name)
        return [(asked, asked)] if asked else []

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the rows down to one scope."""
        return rows.filter(scope=value)


def known_operations(alias: str) -> set[str]:
    """Return the operations of late; two short scans along an index, whatever the tables hold."""
    sums = Rollup.objects.using(alias).order_by("-hour").values_list("operation", flat=True)
    records = Record.objects.using(alias).order_by("-id").values_list("operation", flat=True)
    return {*sums[: _OPERATIONS_FROM["sums"]], *records[: _OPERATIONS_FROM["records"]]}

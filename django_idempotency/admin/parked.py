"""Events that could not be handled, in the admin: why, and what is to become of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.filters import Choices
from django_idempotency.admin.settling import Settled, Settlement, Settling
from django_idempotency.admin.streams import GroupFilter, header_lines, payload_size
from django_idempotency.admin.tables import Table
from django_idempotency.models import ParkedEvent
from django_idempotency.streams import parking

if TYPE_CHECKING:
    _ParkedAdmin = admin.ModelAdmin[ParkedEvent]
else:
    _ParkedAdmin = admin.ModelAdmin


class DecisionFilter(Choices):
    """Whether somebody has decided."""

    title = _("decision")
    parameter_name = "decision"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return what an index tells apart."""
        return [("open", _("waits")), ("settled", _("settled"))]

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the rows down."""
        if value == "open":
            return rows.filter(status=ParkedEvent.Status.PARKED)
        return rows.filter(settled_at__isnull=False)


def _retry(rows: QuerySet[Any], actor: str, reason: str) -> Settled:
    # In their order, so that those of one business key keep theirs.
    return _each(rows, lambda row: parking.retry(row, actor=actor, reason=reason))


def _drop(rows: QuerySet[Any], actor: str, reason: str) -> Settled:
    return _each(rows, lambda row: parking.drop(row, actor=actor, reason=reason) or True)  # type: ignore[func-returns-value]


def _each(rows: QuerySet[Any], act: Callable[[Any], bool]) -> Settled:
    ids, errors = list[int](), dict[str, None]()
    for row in rows.order_by("pk"):
        try:
            if act(row):
                ids.append(row.pk)
        except (LookupError, ValueError) as error:  # no consumer has its group, or somebody else has decided
            errors[f"{row}: {error}"] = None
    return Settled(ids=ids, errors=tuple(errors))


class ParkedEventAdmin(Settling, Table, _ParkedAdmin):
    """What a group could not handle. Retried, it is handled in this process, in one transaction with its effects."""

    list_display = ("__str__", "business_key", "kind", "short_reason", "attempts", "status", "parked_at")
    list_filter = (DecisionFilter, GroupFilter)
    ordering = ("-pk",)
    actions: Any = ("retry_selected", "drop_selected")
    settle_permission = "settle_parkedevent"
    most_settled = 50
    settlements = (
        Settlement(
            name="retry",
            label=_("Retry"),
            meaning=_("It is handled now, out of order, by the code of this server. If that fails again, it waits on."),
            run=_retry,
        ),
        Settlement(
            name="drop",
            label=_("Drop"),
            meaning=_("It is never handled: the group goes on without it."),
            run=_drop,
            is_dangerous=True,
        ),
    )
    fieldsets: ClassVar = (
        (None, {"fields": ("group", "topic", "business_key", "event_id", "status")}),
        (_("Why"), {"fields": ("kind", "reason", "attempts")}),
        (_("Position"), {"fields": ("partition", "offset", "epoch")}),
        (_("Content"), {"fields": ("size", "header_lines")}),
        (_("Times"), {"fields": ("recorded_at", "parked_at", "settled_at")}),
    )

    def why(self, row: Any) -> str:
        """Return what went wrong."""
        return str(row.reason)

    @admin.action(permissions=["settle"], description=_("Retry…"))
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        """Ask about the selected events."""
        return self._ask("retry", queryset)

    @admin.action(permissions=["settle"], description=_("Drop…"))
    def drop_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        """Ask about the selected events."""
        return self._ask("drop", queryset)

    def _ask(self, verb: str, queryset: QuerySet[Any]) -> HttpResponse:
        # A page of the list at most: the address that is asked at names each of them.
        return HttpResponseRedirect(
            self.address(verb, list(queryset.values_list("pk", flat=True)[: self.list_per_page]))
        )

    @admin.display(description=_("reason"))
    def short_reason(self, event: Any) -> str:
        """The beginning of the reason."""
        text = event.reason.splitlines()[0] if event.reason else ""
        return text if len(text) <= 100 else f"{text[:100]}…"

    @admin.display(description=_("payload"))
    def size(self, event: Any) -> str:
        """The length of the payload."""
        return payload_size(event)

    @admin.display(description=_("headers"))
    def header_lines(self, event: Any) -> str:
        """The headers, a line each."""
        return header_lines(event.headers)

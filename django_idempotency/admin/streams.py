"""The outbox and the inbox in the admin: lists along an index, whatever the tables hold."""

from __future__ import annotations

import json
import uuid
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Max, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.desk import Desk
from django_idempotency.admin.filters import Choices
from django_idempotency.admin.finding import FOUND
from django_idempotency.admin.lists import DeskList
from django_idempotency.admin.names import LeapFilter, names
from django_idempotency.admin.records import BodyLength
from django_idempotency.admin.settling import Settled, Settlement, Settling
from django_idempotency.admin.walks import Walk
from django_idempotency.models import ConsumedEvent, OutboxEvent
from django_idempotency.streams import outbox


class TopicFilter(LeapFilter):
    """The topic, of those that have rows."""

    title = _("topic")
    parameter_name = "topic"


class GroupFilter(LeapFilter):
    """The group, of those that have rows."""

    title = _("group")
    parameter_name = "group"


class StatusFilter(Choices):
    """Where an event of the outbox is."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        """Return all there are."""
        return list(OutboxEvent.Status.choices)

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the rows down to one."""
        return rows.filter(status=value)


class OutcomeOfConsumptionFilter(Choices):
    """What came of an event."""

    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        """Return all there are."""
        return list(ConsumedEvent.Outcome.choices)

    def narrow(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow the rows down to one."""
        return rows.filter(outcome=value)


def read_uuid(term: str) -> uuid.UUID | None:
    """Return the UUID that a text is, None if it is none."""
    try:
        return uuid.UUID(term)
    except ValueError:
        return None


def payload_size(row: Any) -> str:
    """Return how long a payload is, without fetching it: what it says is not shown, as nobody knows what is in it."""
    rows = type(row)._base_manager.using(row._state.db).filter(pk=row.pk)
    length = rows.aggregate(length=Max(BodyLength("payload")))["length"]
    return str(_("none: the key is gone")) if length is None else filesizeformat(length)


def header_lines(headers: Any) -> str:
    """Return headers, a line each."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    try:
        return "\n".join(f"{name}: {value}" for name, value in pairs)
    except (TypeError, ValueError):
        return json.dumps(headers)


def _retry(rows: QuerySet[Any], actor: str, reason: str) -> Settled:
    ids = list(rows.values_list("pk", flat=True))
    outbox.retry_parked(rows, actor=actor, reason=reason)
    return Settled(ids=ids)


def _drop(rows: QuerySet[Any], actor: str, reason: str) -> Settled:
    ids = list(rows.values_list("pk", flat=True))
    outbox.drop_parked(rows, actor=actor, reason=reason)
    return Settled(ids=ids)


class OutboxEventAdmin(Settling, Desk):
    """What was published, and whether the broker has it. What it has refused waits for a decision."""

    list_display = ("event_id", "topic", "business_key", "status", "attempts", "created_at", "published_at")
    list_display_links = ("event_id",)
    list_filter = (StatusFilter, TopicFilter)
    search_fields = ("event_id",)  # shows the field; what is searched says find()
    search_help_text = _("The whole event id or business key.")
    change_list_template = "admin/idempotency/outbox_list.html"
    walked_by = "id"
    settle_permission = "settle_outboxevent"
    settlements = (
        Settlement(
            name="retry",
            label=_("Retry"),
            meaning=_("The relay sends it again. Later events of its business key may be with the broker already."),
            run=_retry,
        ),
        Settlement(
            name="drop",
            label=_("Drop"),
            meaning=_("It is never sent: consumers go on without it."),
            run=_drop,
            is_dangerous=True,
        ),
    )
    fieldsets: ClassVar = (
        (None, {"fields": ("event_id", "topic", "business_key", "lane", "status")}),
        (_("Progress"), {"fields": ("attempts", "error", "created_at", "published_at")}),
        (_("Content"), {"fields": ("size", "header_lines")}),
    )

    def why(self, row: Any) -> str:
        """Return what the broker said."""
        return str(row.error)

    def walk(self, changelist: DeskList) -> Walk:
        """Walk along the index that serves the status, else along the ids."""
        rows, status = changelist.queryset, changelist.chosen("status")
        is_narrowed = bool(changelist.chosen("topic"))
        if status == OutboxEvent.Status.PUBLISHED:
            return Walk(rows=rows, within=Q(published_at__isnull=False), field="published_at", is_narrowed=is_narrowed)
        within = Q(status=status) if status in OutboxEvent.Status.values else _NOT_PARKED
        return Walk(rows=rows, within=within, field="id", is_narrowed=is_narrowed)

    def heads(self, changelist: DeskList) -> list[Any]:
        """Show what waits for a decision above the first page, whatever its age."""
        if changelist.chosen("status"):
            return []
        parked = Q(status=OutboxEvent.Status.PARKED)
        return Walk(rows=changelist.queryset, within=parked, field="id", is_narrowed=False).page(None, 50).rows

    def walks_all(self, changelist: DeskList) -> bool:
        """Tell whether the list shows the whole table."""
        return not changelist.queryset.query.where

    def find(self, changelist: DeskList, term: str) -> list[Any]:
        """Return the event of an id, or the newest of a business key."""
        rows, event_id = changelist.queryset, read_uuid(term)
        if event_id:
            return list(rows.filter(event_id=event_id))
        # Two steps along the index: its first column is the topic.
        condition = Q(topic__in=names(changelist.root_queryset, "topic"), business_key=term)
        return list(rows.filter(condition).order_by("-pk")[:FOUND])

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Offer to decide about all that the broker has refused."""
        offered = self.offered(request, []) if self.waiting(request).exists() else []
        return super().changelist_view(request, {**(extra_context or {}), "settlements": offered})

    @admin.display(description=_("payload"))
    def size(self, event: Any) -> str:
        """The length of the payload."""
        return payload_size(event)

    @admin.display(description=_("headers"))
    def header_lines(self, event: Any) -> str:
        """The headers, a line each."""
        return header_lines(event.headers)


_NOT_PARKED = Q(status__in=[OutboxEvent.Status.PENDING, OutboxEvent.Status.PUBLISHED])


class ConsumedEventAdmin(Desk):
    """The inbox: what each group has seen, and will not handle again."""

    list_display = ("event_id", "group", "topic", "partition", "offset", "business_key", "outcome", "consumed_at")
    list_display_links = ("event_id",)
    list_filter = (OutcomeOfConsumptionFilter, GroupFilter)
    search_fields = ("event_id",)  # shows the field; what is searched says find()
    search_help_text = _("The whole event id.")
    walked_by = "id"
    fieldsets: ClassVar = (
        (None, {"fields": ("event_id", "group", "topic", "business_key", "outcome")}),
        (_("Position"), {"fields": ("partition", "offset")}),
        (_("Times"), {"fields": ("event_at", "consumed_at")}),
    )

    def walk(self, changelist: DeskList) -> Walk:
        """Walk along the ids: newest consumed first."""
        where = bool(changelist.queryset.query.where)
        return Walk(rows=changelist.queryset, within=Q(pk__gt=0), field="id", is_narrowed=where)

    def walks_all(self, changelist: DeskList) -> bool:
        """Tell whether the list shows the whole table."""
        return not changelist.queryset.query.where

    def find(self, changelist: DeskList, term: str) -> list[Any]:
        """Return what the groups have made of an event."""
        event_id = read_uuid(term)
        if event_id is None:
            return []
        groups = names(changelist.root_queryset, "group")  # which leads the index
        return list(changelist.queryset.filter(group__in=groups, event_id=event_id).order_by("-pk"))

"""Audit events and hourly sums in the admin."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.desk import Desk, short
from django_idempotency.admin.exports import Exports
from django_idempotency.admin.filters import (
    EventFilter,
    EventStatusClassFilter,
    OperationFilter,
    ScopeFilter,
    WindowFilter,
)
from django_idempotency.admin.finding import FOUND, digest_range, record_ids
from django_idempotency.admin.lists import DeskList
from django_idempotency.models import AuditEvent, Record


class AuditEventAdmin(Exports, Desk):
    """What happened, and who decided what, when and why."""

    list_display = (
        "at",
        "event",
        "count",
        "short_digest",
        "operation",
        "scope",
        "attempt",
        "status",
        "actor",
        "reason",
    )
    list_filter = (WindowFilter, EventFilter, EventStatusClassFilter, OperationFilter, ScopeFilter)
    search_fields = ("digest",)  # shows the field; what is searched says find()
    search_help_text = _("The whole key as the client sent it, or the first 8 or more hexadecimal digits of a digest.")
    walked_by = "at"
    fieldsets: ClassVar = (
        (None, {"fields": ("event", "count", "at", "actor", "reason")}),
        (_("Operation"), {"fields": ("layer", "operation", "scope", "digest_hex", "attempt")}),
        (_("Outcome"), {"fields": ("status", "duration", "fingerprint_hex", "outcome_hash_hex")}),
    )
    exported: ClassVar = (
        "at",
        "event",
        "count",
        "layer",
        "operation",
        "scope",
        "digest",
        "attempt",
        "status",
        "duration",
        "actor",
        "reason",
        "outcome_hash",
    )

    def find(self, changelist: DeskList, term: str) -> list[AuditEvent]:
        """Return the newest events of a digest, or of the records that a key or a request id names."""
        rows = changelist.queryset
        bounds = digest_range(term)
        condition = Q(digest__range=bounds) if bounds else Q(digest__in=self._digests(changelist, term))
        return list(rows.filter(condition).order_by("-digest", "-id")[:FOUND])

    def _digests(self, changelist: DeskList, term: str) -> list[bytes]:
        alias = changelist.queryset.db
        ids = record_ids(alias, term, scope=changelist.chosen("scope"), operation=changelist.chosen("operation"))
        return [bytes(one) for one in Record.objects.using(alias).filter(pk__in=ids).values_list("digest", flat=True)]

    @admin.display(description=_("digest"))
    def short_digest(self, event: AuditEvent) -> str:
        """The digest as logs show it."""
        return short(event.digest)

    @admin.display(description=_("digest"))
    def digest_hex(self, event: AuditEvent) -> str:
        """The whole digest."""
        return bytes(event.digest).hex()

    @admin.display(description=_("fingerprint"))
    def fingerprint_hex(self, event: AuditEvent) -> str:
        """The keyed digest of the request."""
        return bytes(event.fingerprint).hex()

    @admin.display(description=_("outcome hash"))
    def outcome_hash_hex(self, event: AuditEvent) -> str:
        """The SHA-256 of the outcome."""
        return bytes(event.outcome_hash).hex()


class RollupAdmin(Desk):
    """The sums that charts are drawn from. Whoever may view them sees the dashboard."""

    list_display = ("hour", "layer", "operation", "outcome", "count", "mean")
    list_display_links = None
    list_filter = (WindowFilter, OperationFilter)
    walked_by = "hour"

    @admin.display(description=_("mean duration (ms)"))
    def mean(self, rollup: Any) -> str:
        """The mean duration, in milliseconds."""
        return f"{1000 * rollup.duration_sum / rollup.count:.1f}" if rollup.duration_sum and rollup.count else ""

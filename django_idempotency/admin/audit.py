"""Audit events in the admin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.desk import Desk, short
from django_idempotency.models import AuditEvent

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[AuditEvent]
else:
    _ModelAdmin = admin.ModelAdmin

_DIGITS = re.compile("[0-9a-f]{8,64}")


@admin.register(AuditEvent)
class AuditEventAdmin(Desk, _ModelAdmin):
    """Who decided what, when and why."""

    list_display = ("at", "event", "short_digest", "operation", "scope", "attempt", "actor", "reason")
    list_filter = ("event",)
    search_fields = ("digest",)
    search_help_text = _("The first 8 or more hexadecimal digits of a digest.")
    ordering = ("-id",)
    fieldsets: ClassVar = (
        (None, {"fields": ("event", "at", "actor", "reason")}),
        (_("Operation"), {"fields": ("operation", "scope", "digest_hex", "attempt")}),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        """Search a range of digests, which the index finds."""
        digits = search_term.strip().lower()
        if not digits:
            return queryset, False
        if not _DIGITS.fullmatch(digits):
            return queryset.none(), False
        bounds = tuple(bytes.fromhex(digits.ljust(64, filler)) for filler in "0f")
        return queryset.filter(digest__range=bounds), False

    @admin.display(description=_("digest"))
    def short_digest(self, event: AuditEvent) -> str:
        """The digest as logs show it."""
        return short(event.digest)

    @admin.display(description=_("digest"))
    def digest_hex(self, event: AuditEvent) -> str:
        """The whole digest."""
        return bytes(event.digest).hex()

"""What windows have accepted, in the admin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.desk import short
from django_idempotency.admin.names import LeapFilter
from django_idempotency.admin.tables import Table
from django_idempotency.models import DedupEntry, DedupInterval

if TYPE_CHECKING:
    _EntryAdmin = admin.ModelAdmin[DedupEntry]
    _IntervalAdmin = admin.ModelAdmin[DedupInterval]
else:
    _EntryAdmin = _IntervalAdmin = admin.ModelAdmin

_DIGITS = re.compile("[0-9a-f]{8,64}")


class NameFilter(LeapFilter):
    """The window, of those that have rows."""

    title = _("window")
    parameter_name = "name"


class WindowDesk(Table):
    """What the pages of both tables share."""

    list_filter: Any = (NameFilter,)
    search_fields: Any = ("digest",)
    search_help_text: Any = _("The first 8 or more hexadecimal digits of a digest.")
    ordering: Any = ("-id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search a range of digests, which the index finds."""
        digits = search_term.strip().lower()
        if not digits:
            return queryset, False
        if not _DIGITS.fullmatch(digits):
            return queryset.none(), False
        bounds = tuple(bytes.fromhex(digits.ljust(64, filler)) for filler in "0f")
        return queryset.filter(digest__range=bounds), False

    @admin.display(description=_("digest"))
    def short_digest(self, row: DedupEntry | DedupInterval) -> str:
        """The digest as logs show it."""
        return short(row.digest)

    @admin.display(description=_("digest"))
    def digest_hex(self, row: DedupEntry | DedupInterval) -> str:
        """The whole digest."""
        return bytes(row.digest).hex()


class DedupEntryAdmin(WindowDesk, _EntryAdmin):
    """What was accepted by its arrival, and until when."""

    list_display = ("short_digest", "name", "first_seen_at", "last_seen_at", "expires_at", "hits")
    fieldsets: ClassVar = (
        (None, {"fields": ("name", "digest_hex", "hits")}),
        (_("Times"), {"fields": ("first_seen_at", "last_seen_at", "expires_at")}),
    )


class DedupIntervalAdmin(WindowDesk, _IntervalAdmin):
    """What was accepted by the time of its event."""

    list_display = ("short_digest", "name", "starts_at", "ends_at", "seen_at", "expires_at")
    fieldsets: ClassVar = (
        (None, {"fields": ("name", "digest_hex")}),
        (_("Times"), {"fields": ("starts_at", "ends_at", "seen_at", "expires_at")}),
    )

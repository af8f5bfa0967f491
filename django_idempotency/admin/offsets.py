"""How far consumers have got, in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.tables import Table
from django_idempotency.models import ConsumerOffset

if TYPE_CHECKING:
    _OffsetAdmin = admin.ModelAdmin[ConsumerOffset]
else:
    _OffsetAdmin = admin.ModelAdmin


class ConsumerOffsetAdmin(Table, _OffsetAdmin):
    """Offsets and lag by partition, as the consumer knew them when it moved last, and how far a replay is."""

    list_display = ("group", "topic", "partition", "next_offset", "end_offset", "lag", "replay", "member", "moved_at")
    list_display_links = ("group",)
    search_fields = ("=group", "=topic")
    search_help_text = _("The whole name of a group or a topic.")
    ordering = ("group", "topic", "partition")
    fields = (
        "group",
        "topic",
        "partition",
        "next_offset",
        "read_offset",
        "end_offset",
        "lag",
        "replay",
        "epoch",
        "incarnation",
        "member",
        "moved_at",
    )

    @admin.display(description=_("lag"))
    def lag(self, row: Any) -> int | None:
        """How many records were still to be handled when the end was last seen."""
        lag: int | None = row.lag
        return lag

    @admin.display(description=_("replay"))
    def replay(self, row: Any) -> str:
        """Where a rewind is that reads again what was handled before."""
        if not row.is_replaying:
            return ""
        share = 100 * row.read_offset // row.next_offset
        return f"{row.read_offset} / {row.next_offset} ({share} %)"

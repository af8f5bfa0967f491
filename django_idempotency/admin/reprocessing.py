"""Watermarks and versions of projections in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.tables import Table
from django_idempotency.models import Generation, WatermarkRow

if TYPE_CHECKING:
    _WatermarkAdmin = admin.ModelAdmin[WatermarkRow]
    _GenerationAdmin = admin.ModelAdmin[Generation]
else:
    _WatermarkAdmin = _GenerationAdmin = admin.ModelAdmin


class WatermarkRowAdmin(Table, _WatermarkAdmin):
    """How far each source has been worked through."""

    list_display = ("name", "partition", "position", "kind", "moves", "moved_at")
    search_fields = ("=name",)
    search_help_text = _("The whole name.")
    ordering = ("name", "partition")


class GenerationAdmin(Table, _GenerationAdmin):
    """Which versions there are, and which is live."""

    list_display = ("projection", "version", "state", "table", "rows_read", "built_at", "verified_at", "promoted_at")
    list_filter = ("state",)
    search_fields = ("=projection",)
    search_help_text = _("The whole name of the projection.")
    ordering = ("projection", "-version")

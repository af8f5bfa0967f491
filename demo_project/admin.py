"""Charges in the admin, beside the idempotency records of the requests that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from demo_project.models import Charge

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Charge]
else:
    _ModelAdmin = admin.ModelAdmin


@admin.register(Charge)
class ChargeAdmin(_ModelAdmin):
    """Who paid how much, newest first."""

    list_display = ("id", "user_id", "amount_cents", "created_at")
    list_filter = ("created_at",)
    readonly_fields = ("id", "created_at")
    search_fields = ("=id", "=user_id")
    ordering = ("-created_at",)

"""Charges, payouts and bank transactions, beside the idempotency records of the requests that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from demo_project.models import BankTransaction, Charge, Invoice, Payout

if TYPE_CHECKING:
    _ChargeAdmin = admin.ModelAdmin[Charge]
    _PayoutAdmin = admin.ModelAdmin[Payout]
    _BankTransactionAdmin = admin.ModelAdmin[BankTransaction]
    _InvoiceAdmin = admin.ModelAdmin[Invoice]
else:
    _ChargeAdmin = _PayoutAdmin = _BankTransactionAdmin = _InvoiceAdmin = admin.ModelAdmin


@admin.register(Charge)
class ChargeAdmin(_ChargeAdmin):
    """Who paid how much, newest first."""

    list_display = ("id", "user_id", "amount_cents", "created_at")
    list_filter = ("created_at",)
    readonly_fields = ("id", "created_at")
    search_fields = ("=id", "=user_id")
    ordering = ("-created_at",)


@admin.register(Payout)
class PayoutAdmin(_PayoutAdmin):
    """Who was sent how much, newest first."""

    list_display = ("id", "user_id", "amount_cents", "bank_reference", "created_at")
    list_filter = ("created_at",)
    readonly_fields = ("id", "created_at")
    search_fields = ("=id", "=user_id", "=bank_reference")
    ordering = ("-created_at",)


@admin.register(BankTransaction)
class BankTransactionAdmin(_BankTransactionAdmin):
    """What the bank has booked, newest first."""

    list_display = ("id", "account", "amount_cents", "booked_on", "text")
    search_fields = ("=account",)
    ordering = ("-id",)


@admin.register(Invoice)
class InvoiceAdmin(_InvoiceAdmin):
    """What the job has written, newest first."""

    list_display = ("id", "order_id", "user_id", "amount_cents", "created_at")
    readonly_fields = ("id", "created_at")
    search_fields = ("=id", "=order_id", "=user_id")
    ordering = ("-created_at",)

"""The tables of the payment service."""

from __future__ import annotations

import secrets
from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from django_idempotency.objects import ContentAddressedFileField
from django_idempotency.streams import Positioned
from django_idempotency.writes import UpsertMixin

LARGEST_AMOUNT = 2**31 - 1


def new_charge_id() -> str:
    """Return ``ch_`` and 24 random hex digits."""
    return f"ch_{secrets.token_hex(12)}"


def new_payout_id() -> str:
    """Return ``po_`` and 24 random hex digits."""
    return f"po_{secrets.token_hex(12)}"


def new_receipt_id() -> str:
    """Return ``rc_`` and 24 random hex digits."""
    return f"rc_{secrets.token_hex(12)}"


def new_invoice_id() -> str:
    """Return ``in_`` and 24 random hex digits."""
    return f"in_{secrets.token_hex(12)}"


class Charge(models.Model):
    """Money taken from a user: what nobody wants to happen twice."""

    id = models.CharField(primary_key=True, max_length=27, default=new_charge_id, editable=False)
    user_id = models.CharField(max_length=64, db_index=True)
    # SQLite would take larger numbers than PostgreSQL.
    amount_cents = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(LARGEST_AMOUNT)])
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(amount_cents__gt=0), name="demo_charge_amount_positive"),
        ]

    def __str__(self) -> str:
        return self.id


class Payout(models.Model):
    """Money sent to a user by way of the bank, whose reference of it is kept."""

    id = models.CharField(primary_key=True, max_length=27, default=new_payout_id, editable=False)
    user_id = models.CharField(max_length=64, db_index=True)
    amount_cents = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(LARGEST_AMOUNT)])
    bank_reference = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(amount_cents__gt=0), name="demo_payout_amount_positive"),
        ]

    def __str__(self) -> str:
        return self.id


class BankTransaction(models.Model):
    """A line of a bank's statement, as it came in: the bank gives it no key."""

    id = models.BigAutoField(primary_key=True)
    account = models.CharField(max_length=64, db_index=True)
    amount_cents = models.IntegerField()
    booked_on = models.DateField()
    text = models.CharField(max_length=140, blank=True)

    def __str__(self) -> str:
        return f"{self.booked_on} {self.account} {self.amount_cents}"


class Fact(UpsertMixin):
    """What a nightly file says of a business: one row a key, however often the file is read."""

    biz_key = models.CharField(max_length=64, unique=True)
    amount_cents = models.BigIntegerField()
    note = models.CharField(max_length=200, blank=True)
    imported_at = models.DateTimeField(auto_now=True)

    class Upsert:
        key = ("biz_key",)
        payload = ("amount_cents", "note")

    def __str__(self) -> str:
        return self.biz_key


class Receipt(models.Model):
    """A report that somebody has uploaded; receipts of the same report share its content."""

    id = models.CharField(primary_key=True, max_length=27, default=new_receipt_id, editable=False)
    user_id = models.CharField(max_length=64, db_index=True)
    file_name = models.CharField(max_length=255, blank=True)
    file = ContentAddressedFileField(storage="blobs", filename_field="file_name")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.id


class Invoice(models.Model):
    """What a job writes of an order. Nothing in the table keeps an order from having two."""

    id = models.CharField(primary_key=True, max_length=27, default=new_invoice_id, editable=False)
    order_id = models.CharField(max_length=64, db_index=True)
    user_id = models.CharField(max_length=64, db_index=True)
    amount_cents = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(LARGEST_AMOUNT)])
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.id


class ChargeTotal(models.Model):
    """What a user has been charged in all: derived from the charges, and rebuilt beside what is read."""

    user_id = models.CharField(primary_key=True, max_length=64)
    charges = models.PositiveIntegerField()
    amount_cents = models.PositiveBigIntegerField()

    class Meta:
        managed = False
        db_table = "demo_charge_total"

    def __str__(self) -> str:
        return f"{self.user_id}: {self.amount_cents}"


class AccountTotal(Positioned):
    """What a user has been charged in all, as the events tell that the charges publish: no charge is looked up."""

    user_id = models.CharField(primary_key=True, max_length=64)
    charges = models.PositiveIntegerField()
    amount_cents = models.PositiveBigIntegerField()

    def __str__(self) -> str:
        return f"{self.user_id}: {self.amount_cents}"

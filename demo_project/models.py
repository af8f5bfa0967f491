"""The tables of the payment service."""

from __future__ import annotations

import secrets
from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

LARGEST_AMOUNT = 2**31 - 1


def new_charge_id() -> str:
    """Return ``ch_`` and 24 random hex digits."""
    return f"ch_{secrets.token_hex(12)}"


def new_payout_id() -> str:
    """Return ``po_`` and 24 random hex digits."""
    return f"po_{secrets.token_hex(12)}"


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

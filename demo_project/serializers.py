"""What clients send and get."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from demo_project.announcements import announce
from demo_project.models import BankTransaction, Charge, Payout


class ChargeSerializer(serializers.ModelSerializer[Charge]):
    """A charge: ``user_id`` and ``amount_cents`` are the client's, the rest is the server's."""

    class Meta:
        model = Charge
        fields = ("id", "user_id", "amount_cents", "created_at")
        read_only_fields = ("id", "created_at")

    def create(self, validated_data: dict[str, Any]) -> Charge:
        """Make the charge, and publish it."""
        charge = super().create(validated_data)
        announce(charge)
        return charge


class PayoutSerializer(serializers.ModelSerializer[Payout]):
    """A payout: as a charge, with the reference that the bank gave."""

    class Meta:
        model = Payout
        fields = ("id", "user_id", "amount_cents", "bank_reference", "created_at")
        read_only_fields = ("id", "bank_reference", "created_at")


class BankTransactionSerializer(serializers.ModelSerializer[BankTransaction]):
    """A line of a bank's statement."""

    class Meta:
        model = BankTransaction
        fields = ("account", "amount_cents", "booked_on", "text")


class ChargeQuery(serializers.Serializer[None]):
    """The query of the list: ``?user_id=`` narrows it to one user."""

    user_id = serializers.CharField(required=False, allow_blank=True, max_length=64)

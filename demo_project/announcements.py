"""What the service tells others: each charge is published in the transaction that makes it."""

from __future__ import annotations

from demo_project.models import Charge
from django_idempotency.streams import publish

CHARGE_CREATED = "charge.created"


def announce(charge: Charge) -> None:
    """Publish a new charge; those of a user keep their order. It must be called in the transaction of its row."""
    publish(CHARGE_CREATED, charge.user_id, {"charge_id": charge.pk, "amount_cents": charge.amount_cents})

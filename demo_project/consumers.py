"""What is built from the events of the service: found by ``idempotency_consume`` where there is a broker to read."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from demo_project.announcements import CHARGE_CREATED
from demo_project.faults import strike_consumer
from demo_project.models import AccountTotal
from django_idempotency.streams import Event, Projection


class AccountTotals(Projection, register=hasattr(settings, "IDEMPOTENCY_BROKERS")):
    """Number and sum of the charges by user. It adds up, so an event that counted twice would stay wrong for ever."""

    topic = CHARGE_CREATED
    model = AccountTotal
    key = "user_id"

    def apply(self, event: Event, current: AccountTotal | None) -> dict[str, Any]:
        """Add one charge."""
        strike_consumer()
        return {
            "charges": (current.charges if current else 0) + 1,
            "amount_cents": (current.amount_cents if current else 0) + event.data["amount_cents"],
        }

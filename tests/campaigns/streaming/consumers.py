"""The consumer of the campaign of streams: an additive view, which a second application of any event would spoil."""

from __future__ import annotations

from typing import Any

from django_idempotency.streams import Event, Projection
from tests.campaigns.streaming.models import RunningTotal

TOPIC, GROUP = "account-moved", "RunningTotals"


class RunningTotals(Projection):
    topic = TOPIC
    model = RunningTotal
    key = "account"

    def apply(self, event: Event, current: Any) -> dict[str, Any]:
        total, events, last, disorders = (0, 0, 0, 0)
        if current is not None:
            total, events, last, disorders = current.total, current.events, current.last_sequence, current.disorders
        return {
            "total": total + event.data["amount"],
            "events": events + 1,
            "last_sequence": event.data["sequence"],
            "disorders": disorders + (event.data["sequence"] != last + 1),
        }

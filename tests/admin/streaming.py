"""What relays and consumers have left on the desk."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone

from django_idempotency.models import ConsumedEvent, ConsumerOffset, OutboxEvent, ParkedEvent

HOSTILE = "<script>alert(1)</script>"
SECRET_PAYLOAD = b'{"card": "canarybody-4111"}'
AGO = timedelta(minutes=5)


def make_outbox(status: str = "pending", **values: Any) -> OutboxEvent:
    """Make an event of the outbox."""
    is_published = status == "published"
    facts: dict[str, Any] = {
        "event_id": uuid.uuid4(),
        "topic": "orders",
        "business_key": "order-1",
        "payload": SECRET_PAYLOAD,
        "headers": {"content-type": "application/json"},
        "lane": 3,
        "status": status,
        "created_at": timezone.now() - AGO,
        "published_at": timezone.now() if is_published else None,
        "error": f"too large {HOSTILE}" if status == "parked" else "",
        "attempts": 1 if status == "parked" else 0,
    }
    return OutboxEvent.objects.create(**{**facts, **values})


def make_consumed(**values: Any) -> ConsumedEvent:
    """Make an event of the inbox."""
    facts: dict[str, Any] = {
        "group": "billing",
        "event_id": uuid.uuid4(),
        "topic": "orders",
        "partition": 0,
        "offset": 7,
        "business_key": "order-1",
        "event_at": timezone.now() - AGO,
        "consumed_at": timezone.now(),
    }
    return ConsumedEvent.objects.create(**{**facts, **values})


def make_parked(**values: Any) -> ParkedEvent:
    """Make an event that could not be handled."""
    event_id = uuid.uuid4()
    facts: dict[str, Any] = {
        "group": "billing",
        "topic": "orders",
        "partition": 0,
        "offset": ParkedEvent.objects.count(),
        "event_id": event_id,
        "business_key": "order-1",
        "record_key": b"order-1",
        "payload": SECRET_PAYLOAD,
        "headers": [["event-id", str(event_id)], ["content-type", "application/json"]],
        "kind": "failed",
        "reason": f"ValueError: {HOSTILE}",
        "parked_at": timezone.now(),
    }
    return ParkedEvent.objects.create(**{**facts, **values})


def make_offset(**values: Any) -> ConsumerOffset:
    """Make the position of a group in a partition."""
    facts: dict[str, Any] = {
        "group": "billing",
        "topic": "orders",
        "partition": 0,
        "next_offset": 4000,
        "read_offset": 4000,
        "end_offset": 4321,
        "moved_at": timezone.now(),
    }
    return ConsumerOffset.objects.create(**{**facts, **values})

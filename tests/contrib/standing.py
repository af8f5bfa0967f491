"""What waits, in every way."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone

from django_idempotency.models import ConsumerOffset, OutboxEvent, ParkedEvent, Record

HOUR = timedelta(hours=1)


def add_records() -> None:
    """Add what is completed, expired, held, lapsed, released and unknown."""
    now = timezone.now()
    _add(3, status="completed", expires_at=now + HOUR)
    _add(2, status="completed", expires_at=now - 2 * HOUR)
    _add(1, status="in_progress", lease_expires_at=now + HOUR)
    _add(2, status="in_progress", lease_expires_at=now - HOUR)
    _add(1, status="released", lease_expires_at=None)
    _add(1, status="unknown", created_at=now - 5 * HOUR, expires_at=now - 4 * HOUR)
    _add(1, status="unknown", created_at=now - 3 * HOUR)


def _add(count: int, **fields: Any) -> None:
    known, now = Record.objects.count(), timezone.now()
    common = {
        "scope": "user:1",
        "operation": "POST charge-list",
        "fingerprint": b"f",
        "fingerprint_version": 1,
        "fingerprint_secret": "s",
        "created_at": now - HOUR,
        "expires_at": now + HOUR,
    }
    for number in range(count):
        Record.objects.create(digest=bytes([known + number]) * 32, **{**common, **fields})


def add_streams() -> None:
    """Add events that wait, one that is parked, and a group that reads a partition again."""
    now = timezone.now()
    for number, (status, age) in enumerate([("pending", HOUR), ("pending", 2 * HOUR), ("parked", 3 * HOUR)]):
        facts = {"topic": "orders", "business_key": "a", "lane": 0, "status": status, "created_at": now - age}
        OutboxEvent.objects.create(event_id=uuid.UUID(int=number), **facts)
    OutboxEvent.objects.create(
        event_id=uuid.UUID(int=9),
        topic="orders",
        business_key="a",
        lane=0,
        status="published",
        created_at=now - 9 * HOUR,
    )
    offsets = {"next_offset": 90, "read_offset": 30, "end_offset": 100, "moved_at": now - HOUR}
    ConsumerOffset.objects.create(group="billing", topic="orders", partition=3, **offsets)
    ConsumerOffset.objects.create(group="mail", topic="orders", partition=0, next_offset=0, read_offset=0)
    for number, status in enumerate(["parked", "retried"]):
        place = {"group": "billing", "topic": "orders", "partition": 0, "offset": number}
        ParkedEvent.objects.create(**place, kind="failed", reason="ValueError", status=status, parked_at=now)

"""Records in every status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from django_idempotency.models import Record

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

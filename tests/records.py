"""What the database holds, and records as they will be."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from django_idempotency.models import Record
from tests.models import Payment


def rows() -> tuple[int, int]:
    """Count effects and records."""
    return Payment.objects.count(), Record.objects.count()


def expire(key: str) -> None:
    """Let the record of a key have expired an hour ago."""
    an_hour_ago = timezone.now() - timedelta(hours=1)
    assert Record.objects.filter(key=key).update(expires_at=an_hour_ago) == 1

"""How long the audit keeps what."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.utils import timezone

from django_idempotency.audit.models import AuditEvent, DrainedBatch
from django_idempotency.audit.rollups import Rollup
from django_idempotency.conf import settings
from django_idempotency.retention import Retention
from django_idempotency.retention import register as register_retention


def register(aliases: Callable[[], Iterable[str]]) -> None:
    """Have the tables purged on these databases."""
    kept = (
        Retention(
            name="audit",
            model=AuditEvent,
            expired=lambda alias: AuditEvent.objects.using(alias).expired(),
            order_by="at",
            aliases=aliases,
        ),
        Retention(
            name="rollups",
            model=Rollup,
            expired=lambda alias: Rollup.objects.using(alias).filter(hour__lt=timezone.now() - settings.rollup_ttl),
            order_by="hour",
            aliases=aliases,
        ),
        Retention(
            name="drained",
            model=DrainedBatch,
            expired=lambda alias: DrainedBatch.objects.using(alias).filter(at__lt=timezone.now() - settings.audit_ttl),
            order_by="at",
            aliases=aliases,
        ),
    )
    for retention in kept:
        register_retention(retention)

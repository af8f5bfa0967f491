"""The admin: an audit desk. Registered with the default site unless ``IDEMPOTENCY_ADMIN`` is False."""

from __future__ import annotations

from django.contrib import admin

from django_idempotency.admin.audit import AuditEventAdmin, RollupAdmin
from django_idempotency.admin.jobs import JobRunAdmin, QueuedJobAdmin
from django_idempotency.admin.offsets import ConsumerOffsetAdmin
from django_idempotency.admin.parked import ParkedEventAdmin
from django_idempotency.admin.records import RecordAdmin
from django_idempotency.admin.reprocessing import GenerationAdmin, WatermarkRowAdmin
from django_idempotency.admin.streams import ConsumedEventAdmin, OutboxEventAdmin
from django_idempotency.admin.windows import DedupEntryAdmin, DedupIntervalAdmin
from django_idempotency.conf import settings
from django_idempotency.models import (
    AuditEvent,
    ConsumedEvent,
    ConsumerOffset,
    DedupEntry,
    DedupInterval,
    Generation,
    JobRun,
    OutboxEvent,
    ParkedEvent,
    QueuedJob,
    Record,
    Rollup,
    WatermarkRow,
)

__all__ = [
    "AuditEventAdmin",
    "ConsumedEventAdmin",
    "ConsumerOffsetAdmin",
    "DedupEntryAdmin",
    "DedupIntervalAdmin",
    "GenerationAdmin",
    "JobRunAdmin",
    "OutboxEventAdmin",
    "ParkedEventAdmin",
    "QueuedJobAdmin",
    "RecordAdmin",
    "RollupAdmin",
    "WatermarkRowAdmin",
    "register",
]


def register(site: admin.AdminSite) -> None:
    """Register the pages with a site, such as one of your own."""
    site.register(Record, RecordAdmin)
    site.register(AuditEvent, AuditEventAdmin)
    site.register(Rollup, RollupAdmin)
    site.register(DedupEntry, DedupEntryAdmin)
    site.register(DedupInterval, DedupIntervalAdmin)
    site.register(JobRun, JobRunAdmin)
    site.register(QueuedJob, QueuedJobAdmin)
    site.register(WatermarkRow, WatermarkRowAdmin)
    site.register(Generation, GenerationAdmin)
    site.register(OutboxEvent, OutboxEventAdmin)
    site.register(ConsumedEvent, ConsumedEventAdmin)
    site.register(ConsumerOffset, ConsumerOffsetAdmin)
    site.register(ParkedEvent, ParkedEventAdmin)


if settings.ADMIN:
    register(admin.site)

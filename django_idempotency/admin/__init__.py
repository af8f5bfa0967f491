"""The admin."""

from django_idempotency.admin.audit import AuditEventAdmin
from django_idempotency.admin.records import RecordAdmin
from django_idempotency.admin.reprocessing import GenerationAdmin, WatermarkRowAdmin
from django_idempotency.admin.windows import DedupEntryAdmin, DedupIntervalAdmin

__all__ = [
    "AuditEventAdmin",
    "DedupEntryAdmin",
    "DedupIntervalAdmin",
    "GenerationAdmin",
    "RecordAdmin",
    "WatermarkRowAdmin",
]

"""The admin."""

from django_idempotency.admin.audit import AuditEventAdmin
from django_idempotency.admin.records import RecordAdmin
from django_idempotency.admin.reprocessing import GenerationAdmin, WatermarkRowAdmin

__all__ = ["AuditEventAdmin", "GenerationAdmin", "RecordAdmin", "WatermarkRowAdmin"]

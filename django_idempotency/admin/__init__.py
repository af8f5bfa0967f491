"""The admin."""

from django_idempotency.admin.audit import AuditEventAdmin
from django_idempotency.admin.records import RecordAdmin

__all__ = ["AuditEventAdmin", "RecordAdmin"]

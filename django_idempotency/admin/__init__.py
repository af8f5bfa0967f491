"""The admin."""

from django_idempotency.admin.records import RecordAdmin

__all__ = ["RecordAdmin"]

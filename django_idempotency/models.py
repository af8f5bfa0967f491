"""An index only: each room owns its models."""

from django_idempotency.audit.models import AuditEvent
from django_idempotency.audit.rollups import Rollup
from django_idempotency.reprocessing.models import Generation, WatermarkRow
from django_idempotency.stores.models import Record

__all__ = ["AuditEvent", "Generation", "Record", "Rollup", "WatermarkRow"]

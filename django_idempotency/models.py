"""An index only: each room owns its models."""

from django_idempotency.audit.models import AuditEvent, DrainedBatch
from django_idempotency.audit.rollups import Rollup
from django_idempotency.jobs.models import JobRun, QueuedJob
from django_idempotency.reprocessing.models import Generation, WatermarkRow
from django_idempotency.stores.models import Record
from django_idempotency.writes.models import DedupEntry, DedupInterval

__all__ = [
    "AuditEvent",
    "DedupEntry",
    "DedupInterval",
    "DrainedBatch",
    "Generation",
    "JobRun",
    "QueuedJob",
    "Record",
    "Rollup",
    "WatermarkRow",
]

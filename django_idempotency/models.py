"""An index only: each room owns its models."""

from django_idempotency.audit.models import AuditEvent, DrainedBatch
from django_idempotency.audit.rollups import Rollup
from django_idempotency.reprocessing.models import Generation, WatermarkRow
from django_idempotency.stores.models import Record
from django_idempotency.streams.models import (
    ConsumedEvent,
    ConsumerOffset,
    OutboxEvent,
    OutboxLane,
    ParkedEvent,
    RetentionFloor,
)
from django_idempotency.writes.models import DedupEntry, DedupInterval

__all__ = [
    "AuditEvent",
    "ConsumedEvent",
    "ConsumerOffset",
    "DedupEntry",
    "DedupInterval",
    "DrainedBatch",
    "Generation",
    "OutboxEvent",
    "OutboxLane",
    "ParkedEvent",
    "Record",
    "RetentionFloor",
    "Rollup",
    "WatermarkRow",
]

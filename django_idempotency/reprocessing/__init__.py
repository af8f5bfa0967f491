"""Reprocessing: watermarks tell how far one has got, projections are rebuilt beside what is read."""

from django_idempotency.reprocessing.errors import (
    ProjectionError,
    SwapRefused,
    SwapTimedOut,
    VerificationFailed,
    WatermarkBusy,
    WatermarkMoved,
)
from django_idempotency.reprocessing.projections import VersionedProjection
from django_idempotency.reprocessing.promotions import Decision, Patience
from django_idempotency.reprocessing.rollouts import Rollout
from django_idempotency.reprocessing.snapshots import CurrentTransaction, TransactionIdField
from django_idempotency.reprocessing.sources import IterableSource, QuerySetSource
from django_idempotency.reprocessing.watermarks import Watermark

__all__ = [
    "CurrentTransaction",
    "Decision",
    "IterableSource",
    "Patience",
    "ProjectionError",
    "QuerySetSource",
    "Rollout",
    "SwapRefused",
    "SwapTimedOut",
    "TransactionIdField",
    "VerificationFailed",
    "VersionedProjection",
    "Watermark",
    "WatermarkBusy",
    "WatermarkMoved",
]

"""Counts that a store has put aside become audit events, each batch once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import transaction

from django_idempotency.audit.models import DrainedBatch
from django_idempotency.audit.writing import append_many
from django_idempotency.core.layers import layer_of
from django_idempotency.core.tallies import Tallies, Tally

_MINUTE = timedelta(minutes=1)


def append_tallies(using: str, tallies: Tallies) -> int:
    """Write a batch down and return how many answers it counts, 0 if it was written down before."""
    counted = [tally for tally in tallies.counted if tally.count > 0]
    with transaction.atomic(using=using, durable=True):
        _, is_new = DrainedBatch.objects.using(using).get_or_create(id=tallies.id)
        if not is_new:
            return 0
        append_many(using, [_event(tally) for tally in counted])
    return sum(tally.count for tally in counted)


def _event(tally: Tally) -> dict[str, object]:
    """Date it at the end of its minute: what it repeats was executed before."""
    return {
        "event": tally.outcome,
        "layer": layer_of(tally.scope),
        "operation": tally.operation,
        "scope": tally.scope,
        "digest": tally.digest,
        "fingerprint": tally.fingerprint,
        "count": tally.count,
        "at": min(tally.at + _MINUTE - timedelta(microseconds=1), datetime.now(UTC)),
    }

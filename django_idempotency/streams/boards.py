"""What a monitor asks of streams: what waits to be published, what waits for a decision, and how far consumers are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db import router
from django.utils import timezone

from django_idempotency.gauges import Board, Gauge, Reading, register
from django_idempotency.streams.figures import lags, outbox
from django_idempotency.streams.models import OutboxEvent

_PARTITION = ("group", "topic", "partition")

OUTBOX = Gauge(name="outbox_events", text="Events that the broker does not have.", labels=("status",))
OLDEST = Gauge(name="outbox_oldest_pending_seconds", text="Age of the oldest event that is to be published.")
PARKED = Gauge(name="parked_events", text="Consumed events that wait for a decision.")
LAG = Gauge(
    name="consumer_lag", text="Records behind the end of the partition as its reader saw it last.", labels=_PARTITION
)
REPLAY = Gauge(name="consumer_replay_left", text="Records that a rewind is still to read again.", labels=_PARTITION)
IDLE = Gauge(name="consumer_idle_seconds", text="Time since the reader of the partition moved.", labels=_PARTITION)


def read(alias: str) -> Iterator[Reading]:
    """Look at one database. Raises DatabaseError."""
    waiting, now = outbox(alias), timezone.now()
    yield Reading(gauge=OUTBOX, values=("pending",), value=waiting.pending)
    yield Reading(gauge=OUTBOX, values=("parked",), value=waiting.parked)
    yield Reading(gauge=OLDEST, value=_age(waiting.oldest_pending_at, now))
    yield Reading(gauge=PARKED, value=waiting.parked_events)
    for one in lags(alias):
        partition = (one.group, one.topic, str(one.partition))
        if one.lag is not None:
            yield Reading(gauge=LAG, values=partition, value=one.lag)
        yield Reading(gauge=REPLAY, values=partition, value=max(one.next_offset - one.read_offset, 0))
        if one.moved_at is not None:
            yield Reading(gauge=IDLE, values=partition, value=_age(one.moved_at, now))


def register_board() -> None:
    """Have it shown by metrics and status."""
    gauges = (OUTBOX, OLDEST, PARKED, LAG, REPLAY, IDLE)
    register(Board(name="streams", gauges=gauges, read=read, aliases=lambda: [router.db_for_write(OutboxEvent)]))


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max((now - moment).total_seconds(), 0.0)

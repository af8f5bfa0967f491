"""How streams stand: what waits in the outbox, and how far groups are behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import router
from django.db.models import Count, Min

from django_idempotency.streams.brokers import get_broker
from django_idempotency.streams.errors import BrokerUnavailable, UnknownTopic
from django_idempotency.streams.models import ConsumerOffset, OutboxEvent, ParkedEvent
from django_idempotency.streams.sinks import registry


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxFigures:
    """What waits in an outbox, and since when; what is parked in it, and among the events of consumers."""

    pending: int
    oldest_pending_at: datetime | None
    parked: int
    parked_events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """How far a group is in a partition; ``lag`` and ``end_offset`` are None where nobody has seen its end."""

    group: str
    topic: str
    partition: int
    next_offset: int
    read_offset: int
    end_offset: int | None
    lag: int | None
    member: str
    moved_at: datetime | None


def outbox(using: str | None = None) -> OutboxFigures:
    """Count what waits and what is parked."""
    alias = using or router.db_for_write(OutboxEvent)
    # Each of the two is served by an index of its own; what is published is many times as much.
    rows = OutboxEvent.objects.using(alias)
    counts = rows.pending().aggregate(pending=Count("pk"), oldest=Min("created_at"))
    return OutboxFigures(
        pending=counts["pending"],
        oldest_pending_at=counts["oldest"],
        parked=rows.parked().count(),
        parked_events=ParkedEvent.objects.using(alias).parked().count(),
    )


def lags(using: str | None = None, *, is_live: bool = False) -> list[PartitionLag]:
    """Return how far groups are, by group, topic and partition.

    ``is_live`` asks the brokers where partitions end; else, and where they do not answer, it is what was seen last.
    """
    alias = using or router.db_for_write(ConsumerOffset)
    rows = list(ConsumerOffset.objects.using(alias).order_by("group", "topic", "partition"))
    ends = dict(_ends({(row.topic, row.group) for row in rows})) if is_live else {}
    return [_lag(row, ends.get((row.topic, row.group, row.partition), row.end_offset)) for row in rows]


def _ends(read: Iterable[tuple[str, str]]) -> Iterator[tuple[tuple[str, str, int], int]]:
    for topic, group in read:
        if sink := registry.find(topic, group):
            try:
                bounds = get_broker(sink.broker).bounds(topic)
            except (BrokerUnavailable, UnknownTopic):
                continue
            yield from (((topic, group, partition), end) for partition, (_, end) in bounds.items())


def _lag(row: ConsumerOffset, end: int | None) -> PartitionLag:
    return PartitionLag(
        group=row.group,
        topic=row.topic,
        partition=row.partition,
        next_offset=row.next_offset,
        read_offset=row.read_offset,
        end_offset=end,
        lag=None if end is None else max(0, end - row.next_offset),
        member=row.member,
        moved_at=row.moved_at,
    )

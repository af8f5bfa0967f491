"""Offsets: how far a group has got, kept beside what it has done and moved on in the same transaction."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db import models, transaction

from django_idempotency.signals import decision_made
from django_idempotency.streams import floors
from django_idempotency.streams.brokers import get_broker
from django_idempotency.streams.errors import PositionLost
from django_idempotency.streams.models import ConsumerOffset, now
from django_idempotency.streams.sinks import Sink

logger = logging.getLogger("django_idempotency.streams")

_MOVED = ("next_offset", "read_offset", "end_offset", "member", "moved_at", "epoch", "incarnation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewind:
    """From where to read again: the start, a time, or an offset of each partition. Only what is new is handled."""

    at: datetime | None = None
    offsets: Mapping[int, int] = field(default_factory=dict)

    def resolve(self, sink: Sink, bounds: Mapping[int, tuple[int, int]]) -> dict[int, int]:
        """Return where to begin, by partition; without an offset a partition goes on where it is."""
        if self.at is not None:
            return get_broker(sink.broker).offsets_at(sink.topic, self.at)
        return dict(self.offsets) or {partition: first for partition, (first, _) in bounds.items()}


class Offsets:
    """The offsets of a sink."""

    def __init__(self, sink: Sink, *, member: str = "") -> None:
        self._sink, self._member = sink, member

    @property
    def rows(self) -> models.QuerySet[ConsumerOffset]:
        """The rows of all partitions."""
        rows = ConsumerOffset.objects.using(self._sink.alias)
        return rows.filter(group=self._sink.group, topic=self._sink.topic).order_by("partition")

    def lock(self, partitions: Collection[int]) -> dict[int, ConsumerOffset]:
        """Return the rows of partitions, locked in order until the transaction ends."""
        rows = self.rows.filter(partition__in=partitions).select_for_update()
        return {row.partition: row for row in rows}

    def save(self, rows: Iterable[ConsumerOffset]) -> None:
        """Write rows that are locked, with one statement."""
        rows = list(rows)
        for row in rows:
            row.member, row.moved_at, row.pk = self._member, now(self._sink.alias), None
        ConsumerOffset.objects.using(self._sink.alias).bulk_create(
            rows, update_conflicts=True, unique_fields=["group", "topic", "partition"], update_fields=list(_MOVED)
        )

    def starts(
        self, partitions: Collection[int], rewind: Rewind | None = None, *, is_lost: bool = False
    ) -> dict[int, int]:
        """Return from where to read partitions that were given to this member; see to it that they have rows.

        Where the log of a partition begins anew, or has lost what was not read yet, that is told. ``is_lost``: the
        broker has refused a position.
        """
        sink = self._sink
        broker = get_broker(sink.broker)
        bounds, incarnation = broker.bounds(sink.topic), broker.incarnation(sink.topic)
        wanted = rewind.resolve(sink, bounds) if rewind else {}
        floors.ensure(sink.alias)
        with transaction.atomic(using=sink.alias):
            self._create(partitions, bounds, incarnation, wanted)
            rows = self.lock(partitions)
            if any(row.next_offset > bounds.get(partition, (0, 0))[1] for partition, row in rows.items()):
                bounds = broker.bounds(sink.topic)  # they may be from before what a rival has read meanwhile
            for partition, row in rows.items():
                self._examine(row, bounds.get(partition, (0, 0)), incarnation, is_lost=is_lost)
                if wanted.get(partition, 0) > row.next_offset:
                    self._move(row, wanted[partition], "skipped", "reading begins behind what is handled")
            self.save(rows.values())
        return {partition: wanted.get(partition, row.next_offset) for partition, row in rows.items()}

    def verify(self, partitions: Collection[int]) -> None:
        """See whether the log is still the one that was read, where nothing comes any more. Raises PositionLost."""
        broker, topic = get_broker(self._sink.broker), self._sink.topic
        bounds, incarnation = broker.bounds(topic), broker.incarnation(topic)
        for row in self.rows.filter(partition__in=partitions):
            _, end = bounds.get(row.partition, (0, 0))
            if _is_other(row, incarnation) or _is_cut(row, end, incarnation, is_lost=False):
                raise PositionLost(f"{topic}/{row.partition} begins anew.")

    def _create(
        self,
        partitions: Collection[int],
        bounds: Mapping[int, tuple[int, int]],
        incarnation: str,
        wanted: Mapping[int, int],
    ) -> None:
        known = set(self.rows.values_list("partition", flat=True))
        # Partitions that a topic is given later are read from their first record, wherever the group began.
        side = 1 if self._sink.start == "latest" and not known else 0
        rows = [
            self._row(partition, wanted.get(partition, bounds.get(partition, (0, 0))[side]), incarnation)
            for partition in sorted(set(partitions) - known)
        ]
        if rows:
            ConsumerOffset.objects.using(self._sink.alias).bulk_create(rows, ignore_conflicts=True)

    def _row(self, partition: int, start: int, incarnation: str) -> ConsumerOffset:
        return ConsumerOffset(
            group=self._sink.group,
            topic=self._sink.topic,
            partition=partition,
            next_offset=start,
            read_offset=start,
            incarnation=incarnation,
        )

    def _examine(self, row: ConsumerOffset, bounds: tuple[int, int], incarnation: str, *, is_lost: bool) -> None:
        """Compare what is known of a partition with what the broker has."""
        first, end = bounds
        begins_anew = _is_other(row, incarnation) or _is_cut(row, end, incarnation, is_lost=is_lost)
        row.incarnation = incarnation or row.incarnation
        row.end_offset = end if begins_anew else max(end, row.next_offset)
        if begins_anew:
            # What the inbox knows is not handled again.
            row.epoch += 1
            self._move(row, first, "restarted", f"the log ends at {end}, before or apart from what was read")
        elif row.next_offset < first:
            self._move(row, first, "skipped", f"the broker no longer has what comes before {first}")

    def _move(self, row: ConsumerOffset, to: int, action: str, why: str) -> None:
        sink = self._sink
        logger.error("%s/%d: from offset %d to %d: %s", sink.name, row.partition, row.next_offset, to, why)
        decision_made.send(
            sender=type(sink),
            using=sink.alias,
            layer="streams",
            operation=sink.name,
            scope=f"partition {row.partition}",
            digest=b"",
            action=action,
            actor="consumer",
            reason=f"{row.next_offset} -> {to}: {why}",
        )
        row.next_offset = row.read_offset = to


def _is_other(row: ConsumerOffset, incarnation: str) -> bool:
    """Tell whether the topic was made anew, where that can be told."""
    return bool(incarnation and row.incarnation and incarnation != row.incarnation)


def _is_cut(row: ConsumerOffset, end: int, incarnation: str, *, is_lost: bool) -> bool:
    """Tell whether the log ends before what was read from it.

    A broker may tell of an end late. Where the topic is known to be the same, that alone is no sign: a position that
    really is behind the end is refused.
    """
    is_same = bool(incarnation and incarnation == row.incarnation)
    return row.next_offset > end and (is_lost or not is_same)

"""One batch of records: inbox, effects and offsets in one transaction."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from django.db import DatabaseError, InterfaceError, connections, transaction

from django_idempotency.signals import batch_answered
from django_idempotency.streams import floors, parking
from django_idempotency.streams.brokers import Record
from django_idempotency.streams.errors import Behind, EventRejected, PoisonEvent
from django_idempotency.streams.events import Event, Reader
from django_idempotency.streams.inbox import Inbox, Outcome
from django_idempotency.streams.models import ConsumerOffset, ParkedEvent
from django_idempotency.streams.offsets import Offsets
from django_idempotency.streams.parking import Kind
from django_idempotency.streams.sinks import Context, Sink

logger = logging.getLogger("django_idempotency.streams")

Poison = Literal["park", "stop"]
#: How many have been ``executed``, ``replayed``, ``failed``, ``rejected``, ``expired``.
Counts = Counter[str]
#: A rival or a deadlock undoes a batch; the second attempt meets what the first one did not see.
_ATTEMPTS = 3
_CONFLICTS = ("40001", "40P01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records, with the offsets that reading began at and the ends of their partitions, where they are known."""

    records: Sequence[Record]
    starts: Mapping[int, int]
    ends: Mapping[int, int] = field(default_factory=dict)


class Applier:
    """Handles the batches of a sink."""

    def __init__(self, sink: Sink, *, poison: Poison = "park", member: str = "") -> None:
        self._sink, self._poison = sink, poison
        self._offsets = Offsets(sink, member=member)
        self._inbox = Inbox(sink.alias, sink.group)

    def apply(self, batch: Batch) -> Counts:
        """Handle what is new in a batch, and move on. May be called with the same batch any number of times.

        Raises Behind where something before the batch was not handled, DatabaseError and InterfaceError where the
        database is gone, PoisonEvent with ``poison="stop"``: what comes before that event is handled.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._whole(batch, attempt)
            except Behind:
                raise
            except (DatabaseError, InterfaceError) as error:
                if self._is_lost():
                    raise
                logger.info("%s: a batch is tried again: %s", self._sink.name, error)
            except Exception as error:  # noqa: BLE001 - a handler may raise anything
                logger.info("%s: a batch is handled event by event: %s", self._sink.name, parking.described(error))
                break
        return self._one_by_one(batch)

    def _whole(self, batch: Batch, attempt: int) -> Counts:
        started = time.monotonic()
        with transaction.atomic(using=self._sink.alias, durable=True):
            rows = self._lock(batch)
            records = _unhandled(batch, rows)
            events, broken = self._read(records, rows)
            if broken and self._poison == "stop":
                raise PoisonEvent
            new, expired = self._enter(events)
            if new:
                self._sink.handle(new, self._context(attempt))
            if broken:
                parking.park(self._sink.alias, broken)
            counts = Counts(executed=len(new), expired=len(expired), rejected=len(broken))
            counts["replayed"] = len(batch.records) - counts.total()
            self._move(rows, batch.records, batch.ends)
            self._tell(counts, started)
        return counts

    def _one_by_one(self, batch: Batch) -> Counts:
        """Handle a batch of which some cannot be handled: each in a savepoint, all in one transaction."""
        started, handled = time.monotonic(), []
        reason: BaseException | None = None
        with transaction.atomic(using=self._sink.alias, durable=True):
            rows = self._lock(batch)
            records = _unhandled(batch, rows)
            counts = Counts(replayed=len(batch.records) - len(records))
            for record in records:
                outcome, reason = self._handle_one(record, rows[record.partition])
                if reason and self._poison == "stop":
                    break
                handled.append(record)
                counts[outcome] += 1
            self._move(rows, handled, batch.ends)
            self._tell(counts, started)
        if reason and self._poison == "stop":
            place = f"{record.topic}/{record.partition}@{record.offset}"
            raise PoisonEvent(f"{place} cannot be handled: {parking.described(reason)}") from reason
        return counts

    def _handle_one(self, record: Record, row: ConsumerOffset) -> tuple[str, Exception | None]:
        """Return what came of a record, and why it is parked, if it is."""
        event = None
        try:
            with transaction.atomic(using=self._sink.alias):
                event = self._reader(row).read(record)
                new, expired = self._enter([event])
                if new:
                    self._sink.handle(new, self._context(1))
            return ("executed" if new else "expired" if expired else "replayed"), None
        except Exception as error:
            if isinstance(error, DatabaseError | InterfaceError) and (self._is_lost() or is_conflict(error)):
                raise
            kind = Kind.REJECTED if isinstance(error, EventRejected) else Kind.FAILED
            if self._poison == "park":
                self._park(record, kind, error, row, event)
            return kind.value, error

    def _park(
        self, record: Record, kind: ParkedEvent.Kind, error: Exception, row: ConsumerOffset, event: Event | None
    ) -> None:
        if event:
            self._inbox.enter([event], Outcome(kind.value))
        parking.park(self._sink.alias, [parking.parked(self._sink, record, kind, error, epoch=row.epoch, event=event)])

    def _lock(self, batch: Batch) -> dict[int, ConsumerOffset]:
        rows = self._offsets.lock(batch.starts.keys())
        for partition, start in batch.starts.items():
            if partition not in rows or rows[partition].next_offset < start:
                raise Behind(f"{self._sink.name}/{partition} is not handled up to {start}.")
        return rows

    def _read(
        self, records: Iterable[Record], rows: Mapping[int, ConsumerOffset]
    ) -> tuple[list[Event], list[ParkedEvent]]:
        """Return the events that records are, and to be parked those that are none."""
        readers = {partition: self._reader(row) for partition, row in rows.items()}
        events, broken = [], []
        for record in records:
            try:
                events.append(readers[record.partition].read(record))
            except EventRejected as error:
                epoch = rows[record.partition].epoch
                broken.append(parking.parked(self._sink, record, Kind.REJECTED, error, epoch=epoch, event=None))
        return events, broken

    def _enter(self, events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
        """Enter events; return those that are new, and those that are too old to tell."""
        fresh = self._inbox.enter(events)
        floor = floors.read(self._sink.alias) if fresh else None
        new: list[Event] = []
        expired: list[Event] = []
        for event in events:
            if event.event_id in fresh:
                fresh.discard(event.event_id)
                (expired if floor and event.at < floor else new).append(event)
        if expired:
            self._inbox.mark([event.event_id for event in expired], Outcome.EXPIRED)
            logger.warning("%s: %d events are older than what is remembered", self._sink.name, len(expired))
        return new, expired

    def _move(self, rows: Mapping[int, ConsumerOffset], records: Iterable[Record], ends: Mapping[int, int]) -> None:
        for partition, row in rows.items():
            row.end_offset = ends.get(partition, row.end_offset)
        for record in records:
            row = rows[record.partition]
            row.read_offset = record.offset + 1
            row.next_offset = max(row.next_offset, row.read_offset)
        self._offsets.save(rows.values())

    def _tell(self, counts: Counts, started: float) -> None:
        batch_answered.send(
            sender=type(self._sink),
            using=self._sink.alias,
            layer="streams",
            operation=self._sink.name,
            counts={outcome: count for outcome, count in counts.items() if count},
            duration=time.monotonic() - started,
        )

    def _reader(self, row: ConsumerOffset) -> Reader:
        return Reader(identity=self._sink.event_id, epoch=row.epoch, incarnation=row.incarnation)

    def _context(self, attempt: int) -> Context:
        sink = self._sink
        return Context(group=sink.group, topic=sink.topic, using=sink.alias, attempt=attempt)

    def _is_lost(self) -> bool:
        connection = connections[self._sink.alias]
        return connection.connection is None or not connection.is_usable()


def is_conflict(error: BaseException) -> bool:
    """Tell whether a transaction failed because of another one: deadlock, or a serialization failure."""
    return getattr(error.__cause__, "sqlstate", "") in _CONFLICTS


def _unhandled(batch: Batch, rows: Mapping[int, ConsumerOffset]) -> list[Record]:
    return [record for record in batch.records if record.offset >= rows[record.partition].next_offset]

"""Consumption: one member of a group reads and handles, through rebalances and outages, until it is told to stop."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from random import uniform
from threading import Event as Flag

from django.db import InterfaceError, OperationalError, connections

from django_idempotency.statements import is_enclosed
from django_idempotency.streams.batches import Applier, Batch, Counts, Poison
from django_idempotency.streams.brokers import Record, Subscription, get_broker
from django_idempotency.streams.errors import Behind, BrokerUnavailable, PositionLost, UnknownTopic
from django_idempotency.streams.inbox import largest_batch
from django_idempotency.streams.offsets import Offsets, Rewind
from django_idempotency.streams.sinks import Sink

logger = logging.getLogger("django_idempotency.streams")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LONGEST_MEMBER = 100
#: Seconds without records after which the broker is asked whether there is still what was read.
_VERIFIED_EVERY = 5.0


class Consumption:
    """Reads for a sink. ``rewind``: where to begin instead of where the group is. ``poll``: seconds to wait for more.

    ``until_caught_up`` ends it where the partitions ended when it began.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        max_batch: int = 500,
        poison: Poison = "park",
        rewind: Rewind | None = None,
        until_caught_up: bool = False,
        poll: float = 0.5,
    ) -> None:
        self._sink, self._poll, self._rewind = sink, poll, rewind
        self._max_batch = min(max_batch, largest_batch(connections[sink.alias]))
        member = f"{socket.gethostname()}:{os.getpid()}"[-_LONGEST_MEMBER:]
        self._offsets = Offsets(sink, member=member)
        self._applier = Applier(sink, poison=poison, member=member)
        self._until_caught_up = until_caught_up
        self._targets: dict[int, int] | None = None
        self._rewound: set[int] = set()
        self._is_lost = False
        self._next: dict[int, int] = {}
        self.total = Counts()

    def run(self, stop: Flag, *, on_batch: Callable[[Counts], None] = lambda counts: None) -> Counts:
        """Handle events until ``stop`` is set, whatever happens to broker and database; return what was done.

        Raises PoisonEvent with ``poison="stop"``.
        """
        pause = 0.0
        while not stop.wait(pause):
            handled = self.total.total()
            try:
                if self._session(stop, on_batch):
                    break
            except (Behind, PositionLost) as error:
                self._is_lost = isinstance(error, PositionLost)
                pause = _longer(0 if self.total.total() > handled else pause)
                logger.warning("%s goes on from what is handled: %s", self._sink.name, error)
            except (BrokerUnavailable, UnknownTopic, OperationalError, InterfaceError) as error:
                pause = _longer(0 if self.total.total() > handled else pause)
                logger.warning("%s waits %.1f s, nothing is lost: %s", self._sink.name, pause, error)
                self._let_go()
        return self.total

    def _session(self, stop: Flag, on_batch: Callable[[Counts], None]) -> bool:
        """Read as a member of the group; tell whether it has caught up."""
        broker = get_broker(self._sink.broker)
        if self._until_caught_up and self._targets is None:
            self._targets = {partition: end for partition, (_, end) in broker.bounds(self._sink.topic).items()}
        self._next.clear()
        subscription = broker.subscribe(self._sink.topic, self._sink.group, starts=self._starts)
        try:
            return self._read(subscription, stop, on_batch)
        finally:
            subscription.close()

    def _read(self, subscription: Subscription, stop: Flag, on_batch: Callable[[Counts], None]) -> bool:
        pause, verified = 0.0, time.monotonic()
        while not stop.is_set():
            try:
                records = subscription.poll(self._max_batch, self._poll)
            except BrokerUnavailable as error:
                pause = _longer(pause)
                logger.warning("%s waits %.1f s for the broker, nothing is lost: %s", self._sink.name, pause, error)
                stop.wait(pause)
                continue
            if pause:  # the log may be another one now, whose records are not to be taken for what comes next
                self._offsets.verify(subscription.assigned())
                pause = 0.0
            if records:
                on_batch(self._apply(subscription, records))
                verified = time.monotonic()
            elif time.monotonic() - verified > _VERIFIED_EVERY:
                self._offsets.verify(subscription.assigned())
                verified = time.monotonic()
            if self._targets is not None and self._is_caught_up(subscription):
                return True
        return False

    def _apply(self, subscription: Subscription, records: Sequence[Record]) -> Counts:
        # Of partitions that were taken away meanwhile, somebody else has the records.
        records = [record for record in records if record.partition in self._next]
        partitions = {record.partition for record in records}
        ends = {partition: end for partition in partitions if (end := subscription.end(partition)) is not None}
        starts = {partition: self._next[partition] for partition in partitions}
        counts = self._applier.apply(Batch(records=records, starts=starts, ends=ends))
        for record in records:
            self._next[record.partition] = record.offset + 1
        subscription.commit({partition: self._next[partition] for partition in partitions})
        self.total.update(counts)
        return counts

    def _starts(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Return from where to read; a rewind is for the first time that a partition is given to this member."""
        fresh = set(partitions) - self._rewound if self._rewind else set()
        starts = self._offsets.starts(fresh, self._rewind, is_lost=self._is_lost) if fresh else {}
        if known := set(partitions) - fresh:
            starts |= self._offsets.starts(known, is_lost=self._is_lost)
        self._rewound |= fresh
        self._is_lost = False
        self._next.update(starts)
        return starts

    def _is_caught_up(self, subscription: Subscription) -> bool:
        targets, assigned = self._targets or {}, set(subscription.assigned())
        if self._rewind and not self._rewound >= (set(self._rewind.offsets) or targets.keys()):
            return False  # what others read meanwhile is not read again by them
        read = {p: max(self._next.get(p, 0), subscription.position(p) or 0) for p in assigned}
        if any(at < targets.get(partition, 0) for partition, at in read.items()):
            return False
        elsewhere = targets.keys() - assigned
        handled = dict(self._offsets.rows.values_list("partition", "next_offset")) if elsewhere else {}
        return all(handled.get(partition, 0) >= targets[partition] for partition in elsewhere)

    def _let_go(self) -> None:
        connection = connections[self._sink.alias]
        if not is_enclosed(connection):
            connection.close_if_unusable_or_obsolete()


def _longer(pause: float) -> float:
    return min(max(_SHORTEST_PAUSE, pause * 2), _LONGEST_PAUSE) * uniform(0.8, 1.0)  # noqa: S311 - out of step

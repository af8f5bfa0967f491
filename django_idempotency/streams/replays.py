"""Replays: a topic from its start, to build something new from it beside what is live."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from django.utils import timezone

from django_idempotency.streams.brokers import get_broker
from django_idempotency.streams.errors import EventRejected
from django_idempotency.streams.events import ID, Event, Identity, Reader
from django_idempotency.streams.inbox import Inbox

logger = logging.getLogger("django_idempotency.streams")

_DIGITS = 19


class TopicReader:
    """Reads the events of a topic behind a position, as far as it goes now; what cannot be read is left out.

    Positions are texts that grow: ``reprocessing.IterableSource(TopicReader("orders"), type=str)`` is a source.
    """

    def __init__(self, topic: str, *, broker: str = "default", event_id: Identity = ID) -> None:
        self.topic, self.broker = topic, broker
        self._reader = Reader(identity=event_id)

    def __call__(self, after: str | None) -> Iterator[tuple[str, Event]]:
        """Yield positions and events. Raises BrokerUnavailable, UnknownTopic."""
        broker = get_broker(self.broker)
        known = [int(offset) for offset in after.split(",")] if after else []
        offsets = {partition: first for partition, (first, _) in broker.bounds(self.topic).items()}
        offsets |= dict(enumerate(known))
        for record in broker.read(self.topic, offsets):
            offsets[record.partition] = record.offset + 1
            try:
                event = self._reader.read(record)
            except EventRejected as error:
                logger.warning("%s/%d@%d is left out: %s", self.topic, record.partition, record.offset, error)
                continue
            yield _position(offsets), event


def unseen(events: Iterable[Event], *, group: str, using: str) -> list[Event]:
    """Return those events that the inbox of ``group`` has not seen, each once, and enter them, in the open transaction.

    The copies that producers make are told by it. What is entered is remembered for IDEMPOTENCY_INBOX_TTL from now on,
    however old the events are.
    """
    now, events = timezone.now(), list(events)
    fresh = Inbox(using, group).enter([replace(event, at=now) for event in events])
    found = []
    for event in events:
        if event.event_id in fresh:
            fresh.discard(event.event_id)
            found.append(event)
    return found


def _position(offsets: dict[int, int]) -> str:
    return ",".join(f"{offsets.get(partition, 0):0{_DIGITS}}" for partition in range(max(offsets) + 1))

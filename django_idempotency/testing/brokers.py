"""A broker in memory, for tests of what consumers do: one process, no time, nothing lost but on purpose."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from django_idempotency.streams.brokers import Broker, Message, Offsets, Producer, Record, Report, Subscription
from django_idempotency.streams.errors import BrokerUnavailable, UnknownTopic


class MemoryBroker(Broker):
    """Topics exist from their first message on, with so many ``partitions``; longer messages than ``limit`` are poison.

    ``is_down`` has it answer nobody; ``unknown`` are topics that there never are.
    """

    def __init__(self, *, partitions: int = 4, limit: int = 1_000_000) -> None:
        self.partitions, self.limit = partitions, limit
        self.logs: dict[str, list[list[Record]]] = {}
        self.committed: dict[tuple[str, str], dict[int, int]] = {}
        self.unknown: set[str] = set()
        self.is_down = False
        self.generation = 1
        self.kept = timedelta(days=7)

    def append(self, message: Message, *, at: datetime | None = None) -> Record:
        """Put a message into its partition."""
        self._require(message.topic)
        log = self.logs.setdefault(message.topic, [[] for _ in range(self.partitions)])
        partition = zlib.crc32(message.key) % self.partitions
        record = Record(
            topic=message.topic,
            partition=partition,
            offset=log[partition][-1].offset + 1 if log[partition] else 0,
            key=message.key,
            value=message.value,
            headers=message.headers,
            at=at or datetime.now(UTC),
        )
        log[partition].append(record)
        return record

    def forget_all(self) -> None:
        """Begin anew, as a broker does that was restarted without its disk."""
        self.logs.clear()
        self.generation += 1

    def producer(self) -> Producer:
        """Return a producer."""
        return MemoryProducer(self)

    def subscribe(self, topic: str, group: str, *, starts: Callable[[Collection[int]], Offsets]) -> Subscription:
        """Return a subscription to all partitions, whoever else has one."""
        self._require(topic)
        return MemorySubscription(self, topic, group, starts)

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return the bounds."""
        return {number: _bounds(log) for number, log in enumerate(self._log(topic))}

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        """Return where records begin that are not older."""
        return {
            number: next((record.offset for record in log if record.at and record.at >= moment), _bounds(log)[1])
            for number, log in enumerate(self._log(topic))
        }

    def read(self, topic: str, after: Offsets) -> Iterator[Record]:
        """Read partition by partition."""
        for number, log in enumerate(self._log(topic)):
            yield from [record for record in log if record.offset >= after.get(number, 0)]

    def incarnation(self, topic: str) -> str:
        """Return a number that grows with each ``forget_all``."""
        return str(self.generation)

    def retention(self, topic: str) -> timedelta | None:
        """Return ``kept``."""
        return self.kept

    def _log(self, topic: str) -> list[list[Record]]:
        self._require(topic)
        if topic not in self.logs:
            raise UnknownTopic(f"There is no topic {topic}.")
        return self.logs[topic]

    def _require(self, topic: str) -> None:
        if self.is_down:
            raise BrokerUnavailable
        if topic in self.unknown:
            raise UnknownTopic(f"There is no topic {topic}.")


class MemoryProducer(Producer):
    """Appends at once."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def send(self, messages: Sequence[Message]) -> list[Report]:
        """Append what may be appended."""
        return [self._send(message) for message in messages]

    def _send(self, message: Message) -> Report:
        if len(message.value or b"") > self._broker.limit:
            return Report(error="The message is too large.", is_poison=True)
        try:
            self._broker.append(message)
        except UnknownTopic as error:
            return Report(error=str(error), is_poison=True)
        return Report()

    def close(self) -> None:
        """Do nothing."""


class MemorySubscription(Subscription):
    """Reads all partitions in turn."""

    def __init__(
        self, broker: MemoryBroker, topic: str, group: str, starts: Callable[[Collection[int]], Offsets]
    ) -> None:
        self._broker, self._topic, self._group, self._starts = broker, topic, group, starts
        self._positions: dict[int, int] = {}

    def poll(self, limit: int, timeout: float) -> list[Record]:
        """Return what is there, without waiting."""
        bounds = self._broker.bounds(self._topic)
        if not self._positions:
            self._positions = dict(self._starts(list(bounds)))
        records: list[Record] = []
        for record in self._broker.read(self._topic, self._positions):
            if len(records) < limit:
                records.append(record)
                self._positions[record.partition] = record.offset + 1
        return records

    def assigned(self) -> Collection[int]:
        """Return all, from the first poll on."""
        return set(self._positions)

    def position(self, partition: int) -> int | None:
        """Return the position."""
        return self._positions.get(partition)

    def end(self, partition: int) -> int | None:
        """Return the end."""
        return self._broker.bounds(self._topic)[partition][1]

    def seek(self, partition: int, offset: int) -> None:
        """Move the position."""
        self._positions[partition] = offset

    def commit(self, offsets: Offsets) -> None:
        """Keep what was committed."""
        self._broker.committed.setdefault((self._topic, self._group), {}).update(offsets)

    def close(self) -> None:
        """Have no partitions any more."""
        self._positions.clear()


def _bounds(log: list[Record]) -> tuple[int, int]:
    return (log[0].offset, log[-1].offset + 1) if log else (0, 0)

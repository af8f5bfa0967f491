"""What a broker has to offer, and the brokers that the project has: ``IDEMPOTENCY_BROKERS``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core import checks

from django_idempotency.backends import Backends

#: Offsets by partition.
Offsets = Mapping[int, int]
Headers = tuple[tuple[str, bytes], ...]

# What there are many of are tuples: the cheapest thing to make that cannot be changed.


class Message(NamedTuple):
    """What is sent. Messages with the same key go to the same partition, in order."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()


class Report(NamedTuple):
    """What became of a message: the broker has it, unless there is an error.

    ``is_poison``: it will be refused however often it is sent.
    """

    error: str = ""
    is_poison: bool = False


class Record(NamedTuple):
    """What is read. Offsets grow within a partition, not always by one; ``at`` is the broker's time of it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    at: datetime | None = None


class Producer(ABC):
    """Sends messages for one relay."""

    @abstractmethod
    def send(self, messages: Sequence[Message]) -> list[Report]:
        """Send all, and wait until it is known of each whether the broker has it; return that in the same order.

        Where one of a key is not delivered, none behind it with that key may be, unless the first one is poison.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up what is still on its way."""


class Subscription(ABC):
    """One member of a group, reading the partitions that it has been given."""

    @abstractmethod
    def poll(self, limit: int, timeout: float) -> list[Record]:
        """Return what has come, in order within each partition; nothing after so many seconds.

        Raises BrokerUnavailable (it may be called again), PositionLost.
        """

    @abstractmethod
    def assigned(self) -> Collection[int]:
        """Return the partitions that it has now."""

    @abstractmethod
    def position(self, partition: int) -> int | None:
        """Return the offset of what is read next; None if the partition is not its own."""

    def end(self, partition: int) -> int | None:
        """Return the offset of the next record to come, as far as that is known without asking."""
        return None

    @abstractmethod
    def seek(self, partition: int, offset: int) -> None:
        """Go on reading there."""

    @abstractmethod
    def commit(self, offsets: Offsets) -> None:
        """Tell the broker how far the group is, for those who watch its lag. Nothing depends on it; raises nothing."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group."""


class Broker(ABC):
    """A log of records by topic and partition. Every method may raise BrokerUnavailable."""

    @abstractmethod
    def producer(self) -> Producer:
        """Return a producer of its own."""

    @abstractmethod
    def subscribe(self, topic: str, group: str, *, starts: Callable[[Collection[int]], Offsets]) -> Subscription:
        """Join a group. ``starts`` is asked at each assignment from which offsets to read the partitions."""

    @abstractmethod
    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return of each partition the offsets of its first record and of the next to come. Raises UnknownTopic."""

    @abstractmethod
    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        """Return of each partition the offset of the first record that is not older, or its end."""

    @abstractmethod
    def read(self, topic: str, after: Offsets) -> Iterator[Record]:
        """Read without a group, from these offsets (or the first) to the ends as they are now."""

    def incarnation(self, topic: str) -> str:
        """Return what changes when a topic is made anew, with offsets that begin again; empty if nothing tells."""
        return ""

    def retention(self, topic: str) -> timedelta | None:
        """Return how long records are kept, ``timedelta.max`` for ever, None if that cannot be told."""
        return None

    def check(self, alias: str) -> list[checks.CheckMessage]:
        """Return what is wrong with its options."""
        return []


_brokers = Backends[Broker]("BROKERS")


def get_broker(alias: str = "default") -> Broker:
    """Return the broker of this alias, one instance per process. Raises ImproperlyConfigured."""
    return _brokers.get(alias)

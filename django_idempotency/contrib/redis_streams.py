"""Redis Streams as a broker, through django-redis: a topic is a fixed number of streams, one a partition.

``IDEMPOTENCY_BROKERS = {"default": {"BACKEND": "django_idempotency.contrib.redis_streams.RedisStreamsBroker",
"OPTIONS": {"cache": "streams", "partitions": 4}}}``. An offset is the id of an entry as one number: milliseconds and
sequence. Every member of a group reads all partitions, and the offsets in the database decide between them.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.core import checks
from django.core.cache import caches
from redis.exceptions import RedisError, ResponseError

from django_idempotency.contrib.redis_entries import bounds, fields_of, id_of, is_lost, offset_at, record_of
from django_idempotency.streams.brokers import (
    Broker,
    Message,
    Offsets,
    Producer,
    Record,
    Report,
    Subscription,
)
from django_idempotency.streams.errors import BrokerUnavailable, PositionLost

_PAGE = 500
_LONGEST_BLOCK = 1.0
_LOOK_SECONDS = 5.0


class RedisStreamsBroker(Broker):
    """Streams of one Redis. ``cache``: its alias in CACHES; ``retention``: how long entries are kept, None for ever."""

    def __init__(
        self,
        *,
        cache: str = "default",
        partitions: int = 4,
        prefix: str = "stream:",
        retention: timedelta | None = None,
    ) -> None:
        self._cache, self._prefix, self._retention = cache, prefix, retention
        self.partitions = range(partitions)

    @cached_property
    def client(self) -> Any:
        """The client of redis-py, past the serializers of the cache."""
        backend: Any = caches[self._cache]
        return backend.client.get_client(write=True)

    def stream(self, topic: str, partition: int) -> str:
        """Return the key of a partition; those of a topic are in one slot of a cluster."""
        return f"{self._prefix}{{{topic}}}:{partition}"

    def producer(self) -> Producer:
        """Return a producer."""
        return RedisProducer(self)

    def subscribe(self, topic: str, group: str, *, starts: Callable[[Collection[int]], Offsets]) -> Subscription:
        """Read all partitions from where they start."""
        return RedisSubscription(self, topic, group, starts)

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return first and next offsets; a topic that nobody has published to begins at 0."""
        return {partition: bounds(facts) for partition, facts in self.look(topic).items()}

    def look(self, topic: str) -> dict[int, dict[str, Any]]:
        """Return what Redis tells of the streams of a topic, nothing of one that is not there."""
        with reaching():
            pipeline = self.client.pipeline(transaction=False)
            for partition in self.partitions:
                pipeline.xinfo_stream(self.stream(topic, partition))
            found = pipeline.execute(raise_on_error=False)
        for facts in found:
            if isinstance(facts, Exception) and "no such key" not in str(facts):
                raise BrokerUnavailable(str(facts)) from facts
        return {
            partition: {} if isinstance(facts, Exception) else facts
            for partition, facts in zip(self.partitions, found, strict=True)
        }

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        """Return the offset that a moment is, since ids tell the time, or the end."""
        at = offset_at(moment)
        return {partition: min(at, end) for partition, (_first, end) in self.bounds(topic).items()}

    def read(self, topic: str, after: Offsets) -> Iterator[Record]:
        """Read from these offsets to the ends as they are now."""
        for partition, (first, end) in self.bounds(topic).items():
            start = after.get(partition, first)
            while start < end:
                stream = self.stream(topic, partition)
                with reaching():
                    entries = self.client.xrange(stream, id_of(start), id_of(end - 1), count=_PAGE)
                records = [record_of(topic, partition, entry) for entry in entries]
                yield from records
                start = records[-1].offset + 1 if len(records) == _PAGE else end

    def retention(self, topic: str) -> timedelta | None:
        """Return how long entries are kept."""
        return timedelta.max if self._retention is None else self._retention

    def trimming(self) -> tuple[str, ...]:
        """Return what trims a stream when an entry is added."""
        if self._retention is None:
            return ()
        oldest = int(1000 * (time.time() - self._retention.total_seconds()))
        return ("MINID", "~", str(oldest))

    def check(self, alias: str) -> list[checks.CheckMessage]:
        """Check that the cache is there, and of django-redis."""
        where = f"IDEMPOTENCY_BROKERS[{alias!r}]"
        try:
            _ = self.client
        except Exception as error:  # noqa: BLE001 - what wrong options raise is up to the backend
            hint = "Its OPTIONS name a cache of django_redis.cache.RedisCache: cache='streams'."
            said = f"{where} cannot use CACHES[{self._cache!r}] ({type(error).__name__})."
            return [checks.Error(said, hint=hint, id="idempotency.E068")]
        return []


class RedisProducer(Producer):
    """Adds entries, all of a call in one transaction of Redis: what it refuses leaves nothing out of order."""

    def __init__(self, broker: RedisStreamsBroker) -> None:
        self._broker = broker

    def send(self, messages: Sequence[Message]) -> list[Report]:
        """Add an entry a message. Raises BrokerUnavailable."""
        pipeline = self._broker.client.pipeline(transaction=True)
        for message in messages:
            partition = zlib.crc32(message.key) % len(self._broker.partitions)
            stream = self._broker.stream(message.topic, partition)
            pipeline.execute_command("XADD", stream, *self._broker.trimming(), "*", *fields_of(message))
        with reaching():
            answers = pipeline.execute(raise_on_error=False)
        return [Report(error=str(answer) if isinstance(answer, Exception) else "") for answer in answers]

    def close(self) -> None:
        """Nothing is on its way: every call has been answered."""


class RedisSubscription(Subscription):
    """Reads with XREAD, from where the database says."""

    def __init__(
        self, broker: RedisStreamsBroker, topic: str, group: str, starts: Callable[[Collection[int]], Offsets]
    ) -> None:
        self._broker, self._topic, self._group = broker, topic, group
        self._positions = dict(starts(broker.partitions))
        self._of_stream = {broker.stream(topic, partition).encode(): partition for partition in broker.partitions}
        self._looked_at: dict[int, float] = {}
        self._ends: dict[int, int] = {}

    def poll(self, limit: int, timeout: float) -> list[Record]:
        """Return entries, about as many of each partition."""
        self._check_positions()
        deadline = time.monotonic() + timeout
        while True:
            if records := self._read(limit, deadline - time.monotonic()):
                return records
            if time.monotonic() >= deadline:
                return []

    def _read(self, limit: int, timeout: float) -> list[Record]:
        wanted = {
            self._broker.stream(self._topic, partition): id_of(max(offset - 1, 0))
            for partition, offset in self._positions.items()
        }
        share = max(limit // max(len(wanted), 1), 1)
        block = max(int(1000 * min(timeout, self._longest_block)), 1)
        with reaching():
            streams = self._broker.client.xread(wanted, count=share, block=block)
        records: list[Record] = []
        for stream, entries in _pairs(streams):
            partition = self._of_stream[stream]
            for entry in entries[: limit - len(records)]:
                records.append(record_of(self._topic, partition, entry))
                self._positions[partition] = records[-1].offset + 1
        return records

    @cached_property
    def _longest_block(self) -> float:
        """How long Redis may keep silent, in seconds, without being taken for dead."""
        pool = getattr(self._broker.client, "connection_pool", None)
        timeout = pool and pool.connection_kwargs.get("socket_timeout")
        return min(_LONGEST_BLOCK, timeout / 2) if timeout else _LONGEST_BLOCK

    def _check_positions(self) -> None:
        """Raise PositionLost where entries that were to be read may have been trimmed; look now and then."""
        now = time.monotonic()
        due = [one for one in self._positions if now >= self._looked_at.get(one, 0.0) + _LOOK_SECONDS]
        if not due:
            return
        looked = self._broker.look(self._topic)
        for partition in due:
            self._looked_at[partition] = now
            self._ends[partition] = bounds(looked[partition])[1]
            if is_lost(looked[partition], self._positions[partition]):
                raise PositionLost(f"Entries of {self._topic}/{partition} before the first one left were not read.")

    def assigned(self) -> Collection[int]:
        """Return all partitions."""
        return tuple(self._positions)

    def position(self, partition: int) -> int | None:
        """Return what is read next."""
        return self._positions.get(partition)

    def end(self, partition: int) -> int | None:
        """Return where the stream ended when it was looked at last."""
        return self._ends.get(partition)

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading there."""
        if partition in self._positions:
            self._positions[partition] = offset

    def commit(self, offsets: Offsets) -> None:
        """Move a consumer group, in which nobody reads, so that XINFO GROUPS tells the lag."""
        with suppress(RedisError):
            for partition, offset in offsets.items():
                stream, read = self._broker.stream(self._topic, partition), id_of(max(offset - 1, 0))
                with suppress(ResponseError):  # it is there already
                    self._broker.client.xgroup_create(stream, self._group, id=read, mkstream=True)
                self._broker.client.xgroup_setid(stream, self._group, read)

    def close(self) -> None:
        """Leave nothing behind: nobody counts members."""


def _pairs(streams: Any) -> list[tuple[bytes, list[Any]]]:
    """Return what XREAD has found: RESP 2 and 3 say it in two ways."""
    if isinstance(streams, dict):
        return [(stream, chunk[0]) for stream, chunk in streams.items()]
    return [(stream, entries) for stream, entries in streams or ()]


@contextmanager
def reaching() -> Iterator[None]:
    """Let what keeps Redis from answering be BrokerUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise BrokerUnavailable(f"Redis: {error}") from error

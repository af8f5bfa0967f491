"""The subscription: partitions from the group, offsets from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Literal

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from django_idempotency.contrib.kafka.messages import PASSING, is_end, read, said
from django_idempotency.streams.brokers import Offsets, Record, Subscription
from django_idempotency.streams.errors import BrokerUnavailable

logger = logging.getLogger("django_idempotency.kafka")

CONSUMER = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
}


class KafkaSubscription(Subscription):
    """A member of a consumer group, whose offsets come from elsewhere.

    With ``partitions`` it joins no group, but reads all that this returns.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        topic: str,
        starts: Callable[[Collection[int]], Offsets],
        *,
        partitions: Callable[[str], Collection[int]] | None = None,
    ) -> None:
        self._topic, self._starts, self._partitions = topic, starts, partitions
        self._is_cooperative = "cooperative" in str(settings.get("partition.assignment.strategy", ""))
        self._positions: dict[int, int] = {}
        self._error: Exception | None = None
        self._client = confluent_kafka.Consumer({**settings, "error_cb": self._on_error}, logger=logger)
        if partitions is None:
            told = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_revoke}
            self._client.subscribe([topic], **told)

    def poll(self, limit: int, timeout: float) -> list[Record]:
        """Wait for the first record, then take what is there."""
        if self._partitions and not self._positions:
            self._take_all(self._partitions(self._topic))
        first = self._client.poll(timeout)
        messages = [] if first is None else [first, *self._client.consume(limit - 1, 0.01)] if limit > 1 else [first]
        records = [read(message) for message in messages if message.error() is None or self._hear(message)]
        self._positions |= {record.partition: record.offset + 1 for record in records}
        if records and isinstance(self._error, BrokerUnavailable):
            self._error = None  # it answers again
        if self._error and not records:
            error, self._error = self._error, None
            raise error
        return records

    def _take_all(self, partitions: Collection[int]) -> None:
        starts = self._starts(partitions)
        self._client.assign([TopicPartition(self._topic, partition, offset) for partition, offset in starts.items()])
        self._positions = dict(starts)

    def _hear(self, message: Any) -> Literal[False]:
        """Take note of a message that is no record."""
        error, partition = message.error(), message.partition()
        if is_end(message):
            self._positions[partition] = max(self._positions.get(partition, 0), message.offset())
        elif error.code() not in PASSING:
            self._error = said(error)
        return False

    def assigned(self) -> Collection[int]:
        """Return the partitions that it has."""
        return set(self._positions)

    def position(self, partition: int) -> int | None:
        """Return the offset behind what was read, also where that was no record of anybody's."""
        return self._positions.get(partition)

    def end(self, partition: int) -> int | None:
        """Return what the last fetch told."""
        bounds = self._client.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return bounds[1] if bounds and bounds[1] >= 0 else None

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading there."""
        self._client.seek(TopicPartition(self._topic, partition, offset))
        self._positions[partition] = offset

    def commit(self, offsets: Offsets) -> None:
        """Commit without waiting."""
        places = [TopicPartition(self._topic, partition, offset) for partition, offset in offsets.items()]
        with suppress(KafkaException):
            self._client.commit(offsets=places, asynchronous=True)

    def close(self) -> None:
        """Leave the group."""
        self._client.close()

    def _on_assign(self, client: Any, given: list[TopicPartition]) -> None:
        places = []
        try:
            starts = self._starts([place.partition for place in given]) if given else {}
            places = [TopicPartition(self._topic, partition, offset) for partition, offset in starts.items()]
        except Exception as error:  # noqa: BLE001 - it would be lost in librdkafka
            self._error = error
        assign = client.incremental_assign if self._is_cooperative else client.assign
        assign(places)
        self._positions |= {place.partition: place.offset for place in places}

    def _on_revoke(self, client: Any, taken: list[TopicPartition]) -> None:
        for place in taken:
            self._positions.pop(place.partition, None)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN or error.fatal():
            self._error = self._error or said(error)

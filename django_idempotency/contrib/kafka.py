"""Kafka, through confluent-kafka: ``pip install django-idempotency[kafka]``.

``IDEMPOTENCY_BROKERS = {"default": {"BACKEND": "django_idempotency.contrib.kafka.KafkaBroker", "OPTIONS":
{"bootstrap_servers": "kafka:9092"}}}``. What librdkafka calls its properties goes into ``config`` (for all clients),
``producer`` and ``consumer``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]

from django_idempotency.streams.brokers import Broker, Message, Offsets, Producer, Record, Report, Subscription
from django_idempotency.streams.errors import BrokerUnavailable, PositionLost, UnknownTopic

logger = logging.getLogger("django_idempotency.kafka")

_PRODUCER = {
    "enable.idempotence": True,
    # That of Java and Debezium: librdkafka's own would put a key that both produce into two partitions.
    "partitioner": "murmur2_random",
    # A message that times out alone would be overtaken by the next one of its key: they are given up together.
    "message.timeout.ms": 0,
}
_CONSUMER = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
}
_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_POISON = _UNKNOWN | {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_MSG,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.POLICY_VIOLATION,
}
_LOST = frozenset({KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET})
_DELIVERED = Report()
_OFFSET: Any = OffsetSpec  # which has no types
#: Errors that librdkafka tells of while it goes on by itself.
_PASSING = frozenset({KafkaError._MAX_POLL_EXCEEDED, KafkaError.REBALANCE_IN_PROGRESS})


class KafkaBroker(Broker):
    """A cluster. ``patience``: seconds that a batch may take to be acknowledged; ``timeout``: those of a question.

    ``probe_ends`` finds the ends of partitions by reading there: for servers that do not tell them right (Tansu 0.6).
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        config: Mapping[str, Any] | None = None,
        producer: Mapping[str, Any] | None = None,
        consumer: Mapping[str, Any] | None = None,
        patience: float = 10.0,
        timeout: float = 10.0,
        probe_ends: bool = False,
    ) -> None:
        self._common = {"bootstrap.servers": bootstrap_servers, **(config or {})}
        self._producer, self._consumer = producer or {}, consumer or {}
        self.patience, self.timeout, self._probes = patience, timeout, probe_ends

    @cached_property
    def admin(self) -> AdminClient:
        """The client that asks about topics."""
        return AdminClient(self._common, logger=logger)

    def producer(self) -> Producer:
        """Return a producer."""
        settings = {**self._common, **_PRODUCER, **self._producer}
        return KafkaProducer(self, lambda: confluent_kafka.Producer(settings, logger=logger))

    def subscribe(self, topic: str, group: str, *, starts: Callable[[Collection[int]], Offsets]) -> Subscription:
        """Join a group."""
        settings = {**self._common, **_CONSUMER, **self._consumer, "group.id": group}
        return KafkaSubscription(settings, topic, starts)

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic. A broker that makes topics for producers makes this one."""
        found = self._ask(self.admin.list_topics, topic, timeout=self.timeout).topics[topic]
        if found.error is not None:
            raise _error(found.error)
        return sorted(found.partitions)

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return the bounds, as the leaders tell them."""
        firsts, ends = self._offsets(topic, _OFFSET.earliest()), self._ends(topic)
        return {partition: (first, max(first, ends[partition])) for partition, first in firsts.items()}

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        """Return where records begin that are not older."""
        found = self._offsets(topic, _OFFSET.for_timestamp(int(moment.timestamp() * 1000)))
        ends = self._ends(topic)
        return {partition: ends[partition] if offset < 0 else offset for partition, offset in found.items()}

    def _ends(self, topic: str) -> dict[int, int]:
        ends = self._offsets(topic, _OFFSET.latest())
        if self._probes:
            with self._reading(topic, ends) as messages:
                left = set(ends)
                for message in messages:
                    if _is_end(message):
                        ends[message.partition()] = message.offset()
                        left.discard(message.partition())
                    if not left:
                        break
        return ends

    @contextmanager
    def _reading(self, topic: str, starts: Offsets) -> Iterator[Iterator[Any]]:
        """Read partitions from these offsets, without a group; messages do not end but with BrokerUnavailable."""
        settings = {**self._common, **_CONSUMER, **self._consumer, "group.id": "idempotency-reader"}
        client = confluent_kafka.Consumer({**settings, "fetch.wait.max.ms": 50}, logger=logger)
        try:
            client.assign([TopicPartition(topic, partition, offset) for partition, offset in starts.items()])
            yield self._messages(client)
        finally:
            client.close()

    def _messages(self, client: Any) -> Iterator[Any]:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            for message in client.consume(500, 0.02):
                if message.error() is not None and not _is_end(message):
                    raise _error(message.error())
                deadline = time.monotonic() + self.timeout
                yield message
        raise BrokerUnavailable

    def _offsets(self, topic: str, spec: Any) -> dict[int, int]:
        wanted = {TopicPartition(topic, partition): spec for partition in self.partitions(topic)}
        futures = self._ask(self.admin.list_offsets, wanted, request_timeout=self.timeout)
        return {asked.partition: self._ask(future.result).offset for asked, future in futures.items()}

    def read(self, topic: str, after: Offsets) -> Iterator[Record]:
        """Read partitions together, each to where it ends now."""
        bounds = self.bounds(topic)
        starts = {partition: max(first, after.get(partition, first)) for partition, (first, _) in bounds.items()}
        left = {partition for partition, (_, end) in bounds.items() if starts[partition] < end}
        with self._reading(topic, {partition: starts[partition] for partition in left}) as messages:
            while left:
                message = next(messages)
                _, end = bounds[message.partition()]
                if not _is_end(message) and message.offset() < end:
                    yield _record(message)
                # What ends the partition may be nobody's record, such as the mark of a transaction.
                if message.offset() + (not _is_end(message)) >= end:
                    left.discard(message.partition())

    def incarnation(self, topic: str) -> str:
        """Return the id of the topic (Kafka 2.8 and later)."""
        try:
            future = self.admin.describe_topics(TopicCollection([topic]), request_timeout=self.timeout)[topic]
            return str(future.result().topic_id)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._UNSUPPORTED_FEATURE:
                return ""
            raise _error(error.args[0]) from error

    def retention(self, topic: str) -> timedelta | None:
        """Return ``retention.ms``; compacted topics are kept for ever."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        future = self._ask(self.admin.describe_configs, [resource], request_timeout=self.timeout)[resource]
        config = {name: entry.value for name, entry in self._ask(future.result).items()}
        if "retention.ms" not in config:
            return None
        milliseconds = int(config["retention.ms"])
        is_kept = milliseconds < 0 or "delete" not in (config.get("cleanup.policy") or "delete")
        return timedelta.max if is_kept else timedelta(milliseconds=milliseconds)

    def _ask(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return question(*args, **kwargs)
        except KafkaException as error:
            raise _error(error.args[0]) from error


class KafkaProducer(Producer):
    """Awaits the delivery reports of each batch; what is not acknowledged in time is given up and sent again later."""

    def __init__(self, broker: KafkaBroker, make: Callable[[], Any]) -> None:
        self._broker, self._make = broker, make
        self._client: Any = None
        self._unknown: dict[str, str] = {}

    def send(self, messages: Sequence[Message]) -> list[Report]:
        """Send all, and wait."""
        problems = {topic: self._problem(topic) for topic in {message.topic for message in messages}}
        self._client = self._client or self._make()
        reports: list[Report | None] = [None] * len(messages)
        for place, message in enumerate(messages):
            if problem := problems[message.topic]:
                reports[place] = Report(error=problem, is_poison=True)
            else:
                self._produce(message, partial(_keep, reports, place), reports, place)
        self._await(reports)
        done = [report or Report(error="The broker has not acknowledged it.") for report in reports]
        if any(report.error and not report.is_poison for report in done):
            self.close()
        return done

    def _problem(self, topic: str) -> str:
        """Return what is wrong with a topic; asked once for each, since librdkafka itself waits half a minute."""
        if topic not in self._unknown:
            try:
                self._broker.partitions(topic)
            except UnknownTopic as error:
                return str(error)
            self._unknown[topic] = ""
        return self._unknown[topic]

    def _produce(self, message: Message, on_delivery: Any, reports: list[Report | None], place: int) -> None:
        while True:
            try:
                self._client.produce(
                    message.topic,
                    message.value,
                    message.key,
                    headers=list(message.headers),
                    on_delivery=on_delivery,
                )
            except BufferError:
                self._client.poll(0.1)
            except KafkaException as error:
                reports[place] = _report(error.args[0])
                return
            else:
                return

    def _await(self, reports: list[Report | None]) -> None:
        deadline, left = time.monotonic() + self._broker.patience, len(self._client)
        while self._client.flush(0.2):
            if len(self._client) < left:
                deadline, left = time.monotonic() + self._broker.patience, len(self._client)
            elif time.monotonic() > deadline:
                self._client.purge()
                self._client.flush(1)
                return

    def close(self) -> None:
        """Give up what is on its way, and ask anew about topics."""
        client, self._client = self._client, None
        self._unknown.clear()
        if client is not None:
            client.purge()
            client.flush(1)


class KafkaSubscription(Subscription):
    """A member of a consumer group, whose offsets come from elsewhere."""

    def __init__(self, settings: dict[str, Any], topic: str, starts: Callable[[Collection[int]], Offsets]) -> None:
        self._topic, self._starts = topic, starts
        self._is_cooperative = "cooperative" in str(settings.get("partition.assignment.strategy", ""))
        self._positions: dict[int, int] = {}
        self._error: Exception | None = None
        self._client = confluent_kafka.Consumer({**settings, "error_cb": self._on_error}, logger=logger)
        self._client.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def poll(self, limit: int, timeout: float) -> list[Record]:
        """Wait for the first record, then take what is there."""
        first = self._client.poll(timeout)
        messages = [] if first is None else [first, *self._client.consume(limit - 1, 0.01)] if limit > 1 else [first]
        records = [record for message in messages if (record := self._take(message))]
        if records and isinstance(self._error, BrokerUnavailable):
            self._error = None  # it answers again
        if self._error and not records:
            error, self._error = self._error, None
            raise error
        return records

    def _take(self, message: Any) -> Record | None:
        error, partition = message.error(), message.partition()
        if error is None:
            self._positions[partition] = message.offset() + 1
            return _record(message)
        if _is_end(message):
            self._positions[partition] = max(self._positions.get(partition, 0), message.offset())
        elif error.code() not in _PASSING:
            self._error = _error(error)
        return None

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
            self._error = self._error or _error(error)


def _is_end(message: Any) -> bool:
    """Tell whether a message is none, but says that a partition ends at its offset."""
    return message.error() is not None and message.error().code() == KafkaError._PARTITION_EOF


def _record(message: Any) -> Record:
    kind, milliseconds = message.timestamp()
    return Record(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        headers=tuple((name, value or b"") for name, value in message.headers() or ()),
        at=datetime.fromtimestamp(milliseconds / 1000, UTC) if kind and milliseconds >= 0 else None,
    )


def _keep(reports: list[Report | None], place: int, error: KafkaError | None, message: Any) -> None:
    reports[place] = _DELIVERED if error is None else _report(error)


def _report(error: KafkaError) -> Report:
    return Report(error=f"{error.name()}: {error.str()}", is_poison=error.code() in _POISON)


def _error(error: KafkaError) -> Exception:
    if error.code() in _UNKNOWN:
        return UnknownTopic(error.str())
    return PositionLost(error.str()) if error.code() in _LOST else BrokerUnavailable(error.str())

"""The broker: a cluster, and what it says of its topics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]

from django_idempotency.contrib.kafka.messages import is_end, read, said
from django_idempotency.contrib.kafka.producers import PRODUCER, KafkaProducer
from django_idempotency.contrib.kafka.subscriptions import CONSUMER, KafkaSubscription
from django_idempotency.streams.brokers import Broker, Offsets, Producer, Record, Subscription
from django_idempotency.streams.errors import BrokerUnavailable

logger = logging.getLogger("django_idempotency.kafka")

_OFFSET: Any = OffsetSpec  # which has no types


class KafkaBroker(Broker):
    """A cluster. ``patience``: seconds that a batch may take to be acknowledged; ``timeout``: those of a question.

    Without ``joins_groups`` every consumer reads every partition; where several do, each event is still handled once.
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
        joins_groups: bool = True,
        probe_ends: bool = False,
    ) -> None:
        self._common = {"bootstrap.servers": bootstrap_servers, **(config or {})}
        self._producer, self._consumer = producer or {}, consumer or {}
        self.patience, self.timeout = patience, timeout
        self._joins, self._probes = joins_groups, probe_ends

    @cached_property
    def admin(self) -> AdminClient:
        """The client that asks about topics."""
        return AdminClient(self._common, logger=logger)

    def producer(self) -> Producer:
        """Return a producer."""
        settings = {**self._common, **PRODUCER, **self._producer}
        return KafkaProducer(
            lambda: confluent_kafka.Producer(settings, logger=logger), ask=self.partitions, patience=self.patience
        )

    def subscribe(self, topic: str, group: str, *, starts: Callable[[Collection[int]], Offsets]) -> Subscription:
        """Join a group."""
        settings = {**self._common, **CONSUMER, **self._consumer, "group.id": group}
        return KafkaSubscription(settings, topic, starts, partitions=None if self._joins else self.partitions)

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic. A broker that makes topics for producers makes this one."""
        found = self._ask(self.admin.list_topics, topic, timeout=self.timeout).topics[topic]
        if found.error is not None:
            raise said(found.error)
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
                    if is_end(message):
                        ends[message.partition()] = message.offset()
                        left.discard(message.partition())
                    if not left:
                        break
        return ends

    @contextmanager
    def _reading(self, topic: str, starts: Offsets) -> Iterator[Iterator[Any]]:
        """Read partitions from these offsets, without a group; messages do not end but with BrokerUnavailable."""
        settings = {**self._common, **CONSUMER, **self._consumer, "group.id": "idempotency-reader"}
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
                if message.error() is not None and not is_end(message):
                    raise said(message.error())
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
                if not is_end(message) and message.offset() < end:
                    yield read(message)
                # What ends the partition may be nobody's record, such as the mark of a transaction.
                if message.offset() + (not is_end(message)) >= end:
                    left.discard(message.partition())

    def incarnation(self, topic: str) -> str:
        """Return the id of the topic (Kafka 2.8 and later)."""
        try:
            future = self.admin.describe_topics(TopicCollection([topic]), request_timeout=self.timeout)[topic]
            return str(future.result().topic_id)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._UNSUPPORTED_FEATURE:
                return ""
            raise said(error.args[0]) from error

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
            raise said(error.args[0]) from error

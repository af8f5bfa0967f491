"""A Kafka for tests: a broker of its own that can be stopped, kept from answering, and started empty."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from demo_project.servers import EMBEDDED_KAFKA_OPTIONS, EmbeddedKafka, ServerUnavailable, embedded_kafka


@dataclass(frozen=True, slots=True)
class Kafka:
    """The broker, and settings that name it."""

    server: EmbeddedKafka

    @property
    def bootstrap_servers(self) -> str:
        return self.server.bootstrap_servers

    @property
    def brokers(self) -> dict[str, Any]:
        """IDEMPOTENCY_BROKERS."""
        return brokers(self.bootstrap_servers)

    @property
    def impatient_brokers(self) -> dict[str, Any]:
        """IDEMPOTENCY_BROKERS, so that an outage is noticed at once."""
        return brokers(self.bootstrap_servers, patience=1, timeout=1)


def true_ends(kafka: Kafka, topic: str) -> dict[int, int]:
    """Return where the partitions really end, when nobody writes to them any more."""
    tail = Tail(kafka, topic)
    try:
        tail.read()
        return tail.ends
    finally:
        tail.close()


class Tail:
    """Reads all that a topic has, again and again, past every adapter.

    It goes by what is there: where several producers wrote to a partition at once, the embedded broker tells of an end
    that lies before the last records.
    """

    def __init__(self, kafka: Kafka, topic: str) -> None:
        from confluent_kafka import Consumer, TopicPartition

        config = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "tail", "enable.partition.eof": True}
        self._client = Consumer({**config, "enable.auto.commit": False, "fetch.wait.max.ms": 50})
        partitions = self._client.list_topics(topic, timeout=10).topics[topic].partitions
        #: The offset behind the last record of each partition.
        self.ends = dict.fromkeys(partitions, 0)
        self._ended: set[int] = set()
        self._client.assign([TopicPartition(topic, partition, 0) for partition in partitions])

    def read(self) -> list[Any]:
        """Return the messages that have come since the last time; of a new one all that there are."""
        from confluent_kafka import KafkaError

        found = list[Any]()
        while True:
            came = self._client.consume(1000, 0.1)
            for message in came:
                if message.error() is None:
                    found.append(message)
                    self.ends[message.partition()] = message.offset() + 1
                else:
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    self._ended.add(message.partition())
            # Each partition tells once that it ended; later ones of its messages may still be on their way.
            if not came and self._ended == set(self.ends):
                return found

    def close(self) -> None:
        self._client.close()


def brokers(bootstrap_servers: str, *, patience: float = 5, timeout: float = 5) -> dict[str, Any]:
    """Return IDEMPOTENCY_BROKERS for a broker that is near, and whose members are missed soon."""
    options = {
        "bootstrap_servers": bootstrap_servers,
        **EMBEDDED_KAFKA_OPTIONS,
        "patience": patience,
        "timeout": timeout,
    }
    return {"default": {"BACKEND": "django_idempotency.contrib.kafka.KafkaBroker", "OPTIONS": options}}


@contextmanager
def started_kafka() -> Iterator[Kafka]:
    """Start a broker; skip where there is none."""
    if not importlib.util.find_spec("confluent_kafka"):
        pytest.skip("confluent-kafka is not installed")
    try:
        server = embedded_kafka()
    except ServerUnavailable as error:
        pytest.skip(str(error))
    try:
        yield Kafka(server)
    finally:
        server.stop()

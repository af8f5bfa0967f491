"""A Kafka for tests: a broker of its own that can be stopped, kept from answering, and started empty."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from demo_project.servers import EmbeddedKafka, ServerUnavailable, embedded_kafka


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


def brokers(bootstrap_servers: str) -> dict[str, Any]:
    """Return IDEMPOTENCY_BROKERS for a broker that is near, and whose members are missed soon."""
    options = {
        "bootstrap_servers": bootstrap_servers,
        # A member that was killed keeps its partitions for as long as the first of these.
        "consumer": {"session.timeout.ms": 1500, "heartbeat.interval.ms": 300},
        "patience": 5,
        "timeout": 5,
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

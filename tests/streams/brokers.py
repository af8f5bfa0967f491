"""Brokers of the tests: one in memory, and Kafka's protocol from a wheel."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from django.test import override_settings

from demo_project.servers import EMBEDDED_KAFKA_OPTIONS, EmbeddedKafka, ServerUnavailable, embedded_kafka
from django_idempotency.streams.brokers import Message, get_broker
from django_idempotency.streams.events import ID, TYPE
from django_idempotency.streams.ids import new_id
from django_idempotency.testing.brokers import MemoryBroker

BACKEND = "django_idempotency.contrib.kafka.KafkaBroker"


@contextmanager
def memory(**options: Any) -> Iterator[MemoryBroker]:
    backend = {"BACKEND": "django_idempotency.testing.brokers.MemoryBroker", "OPTIONS": options}
    with override_settings(IDEMPOTENCY_BROKERS={"default": backend}):
        broker = get_broker()
        assert isinstance(broker, MemoryBroker)
        yield broker


def options(servers: str, **more: Any) -> dict[str, dict[str, Any]]:
    """Return IDEMPOTENCY_BROKERS."""
    return {
        "default": {"BACKEND": BACKEND, "OPTIONS": {"bootstrap_servers": servers, **EMBEDDED_KAFKA_OPTIONS, **more}}
    }


@contextmanager
def kafka(servers: str, **more: Any) -> Iterator[Any]:
    with override_settings(IDEMPOTENCY_BROKERS=options(servers, **more)):
        yield get_broker()


def servers() -> str:
    """Return the address of one broker for all tests; skip where there is none."""
    if found := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return found
    return started().bootstrap_servers


def started() -> EmbeddedKafka:
    try:
        return _started()
    except ServerUnavailable as error:
        pytest.skip(str(error))


@cache
def _started() -> EmbeddedKafka:
    return embedded_kafka()


def topic() -> str:
    """Return the name of a topic that nobody else has."""
    return f"orders-{uuid.uuid4().hex[:12]}"


def message(name: str, key: str, number: Any, *, event_id: uuid.UUID | None = None, **headers: str) -> Message:
    """Return what a relay would send."""
    value = number if isinstance(number, bytes) or number is None else json.dumps({"number": number}).encode()
    given = {ID: str(event_id or new_id()), TYPE: "application/json", **headers}
    return Message(
        topic=name,
        key=key.encode(),
        value=value,
        headers=tuple((header, text.encode()) for header, text in given.items() if text),
    )

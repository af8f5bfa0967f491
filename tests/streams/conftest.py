"""Every test has the database; where threads, processes or counts of statements are at stake, one that commits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from django_idempotency.signals import batch_answered, decision_made
from django_idempotency.testing.brokers import MemoryBroker
from tests.streams import brokers


@pytest.fixture(autouse=True)
def _database(db: None) -> None:
    """Roll back at the end, unless a test is marked to commit."""


@pytest.fixture
def memory() -> Iterator[MemoryBroker]:
    with brokers.memory() as broker:
        yield broker


@pytest.fixture
def kafka() -> Iterator[Any]:
    with brokers.kafka(brokers.servers()) as broker:
        yield broker


@pytest.fixture
def topic() -> str:
    return brokers.topic()


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """What was told of batches and decisions."""
    facts: list[dict[str, Any]] = []

    def listen(**said: Any) -> None:
        if said.get("layer") == "streams":
            facts.append(said)

    for signal in (batch_answered, decision_made):
        signal.connect(listen)
    yield facts
    for signal in (batch_answered, decision_made):
        signal.disconnect(listen)

"""What is wrong with brokers and consumers is said before the first event."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from django_idempotency.streams import Projection, checks
from django_idempotency.streams.sinks import Registry, Sink
from django_idempotency.testing.brokers import MemoryBroker
from tests.streams.models import Sum
from tests.streams.sinks import Sums, handler, projection


class Unkeyed(Sums):
    key = "total"


class Unfinished(Projection):
    model = Sum
    key = "key"


class Nowhere(Sums):
    key = "nowhere"


class Modelless(Projection):
    key = "key"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, memory: MemoryBroker) -> Any:
    registry = Registry()
    monkeypatch.setattr(checks, "registry", registry)

    def check(*sinks: Sink, deploy: bool = False) -> list[str]:
        for number, sink in enumerate(sinks):
            registry.add(str(number), sink)
        messages = checks.check_retention() if deploy else checks.check_streams()
        return [message.id or "" for message in messages]

    return check


def test_what_is_well_is_clean(found: Any) -> None:
    assert found(handler("orders"), handler("orders", "stock"), projection("orders")) == []


@pytest.mark.parametrize(
    ("sinks", "wrong"),
    [
        ([handler("orders"), handler("orders")], "idempotency.E121"),
        ([handler("orders", broker="elsewhere")], "idempotency.E122"),
        ([handler("orders", "")], "idempotency.E123"),
        ([handler("orders", "g" * 101)], "idempotency.E123"),
        ([projection("orders", Unkeyed)], "idempotency.E124"),
        ([projection("orders", Nowhere)], "idempotency.E124"),
        ([projection("orders", Unfinished)], "idempotency.E124"),
        ([projection("orders", Modelless)], "idempotency.E124"),
    ],
)
def test_what_is_wrong_with_a_consumer_is_an_error(found: Any, sinks: list[Sink], wrong: str) -> None:
    assert found(*sinks) == [wrong]


@pytest.mark.parametrize("backend", ["nowhere.Broker", "django_idempotency.testing.brokers.MemoryBroker"])
def test_a_broker_that_cannot_be_made_is_an_error(found: Any, backend: str) -> None:
    with override_settings(IDEMPOTENCY_BROKERS={"default": {"BACKEND": backend, "OPTIONS": {"tables": 4}}}):
        assert found() == ["idempotency.E120"]
    with override_settings(IDEMPOTENCY_BROKERS={"default": {}}):
        assert found() == ["idempotency.E120"]


def test_an_inbox_that_forgets_before_the_broker_does_is_warned_of(found: Any, memory: MemoryBroker) -> None:
    sink = handler("orders")
    assert found(sink, deploy=True) == []
    for kept in (timedelta(days=15), timedelta.max):
        memory.kept = kept
        assert found(sink, deploy=True) == ["idempotency.W125"]
    with override_settings(IDEMPOTENCY_INBOX_TTL=timedelta(days=16), IDEMPOTENCY_BROKER_RETENTION=timedelta(days=15)):
        assert found(sink) == found(sink, deploy=True) == []
    with override_settings(IDEMPOTENCY_BROKER_RETENTION=timedelta(days=15)):
        assert found(sink) == ["idempotency.W125"]


def test_a_broker_that_does_not_answer_is_told_of(
    found: Any, memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def retention(topic: str) -> None:
        memory.bounds(topic)

    monkeypatch.setattr(memory, "retention", retention)
    memory.is_down = True
    assert found(handler("orders"), deploy=True) == ["idempotency.W126"]
    assert found(handler("orders", broker="elsewhere"), deploy=True) == []

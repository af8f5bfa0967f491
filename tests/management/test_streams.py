"""The commands of relays and consumers: what they print, how they end, and with which status."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import override_settings

from django_idempotency.management.commands import idempotency_consume
from django_idempotency.streams import publish_many
from django_idempotency.streams.models import ConsumerOffset, OutboxEvent
from django_idempotency.streams.sinks import Registry
from django_idempotency.testing.brokers import MemoryBroker
from tests.campaigns.harness import eventually
from tests.streams import brokers
from tests.streams.brokers import message
from tests.streams.models import Handled
from tests.streams.processes import Command
from tests.streams.sinks import handler

pytestmark = pytest.mark.django_db


@pytest.fixture
def memory() -> Iterator[MemoryBroker]:
    with brokers.memory() as broker:
        yield broker


@pytest.fixture(autouse=True)
def _consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    registry.add("billing", handler("orders"))
    monkeypatch.setattr(idempotency_consume, "registry", registry)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def relay(*arguments: str) -> str:
    return run("idempotency_relay", "--once", *arguments)


def consume(*arguments: str) -> str:
    return run("idempotency_consume", "orders", "--group", "billing", "--until-caught-up", *arguments)


def enter(count: int, topic: str = "orders") -> None:
    with transaction.atomic():
        publish_many(topic, [(f"o-{number % 3}", {"number": number}) for number in range(count)])


def test_once_publishes_what_waits(memory: MemoryBroker) -> None:
    enter(7)
    enter(2, "payments")
    assert relay("--topic", "payments") == "2 published, 0 parked."
    assert json.loads(relay("--json", "--batch", "3")) == {"published": 7, "parked": 0, "left": 0}
    assert relay() == "0 published, 0 parked."


def test_once_ends_with_5_where_the_broker_does_not_answer(memory: MemoryBroker) -> None:
    enter(1)
    memory.is_down = True
    with pytest.raises(CommandError, match="0 were published") as raised:
        relay()
    assert raised.value.returncode == 5


@pytest.mark.parametrize("wrong", [("--batch", "0"), ("--poll", "0"), ("--broker", "elsewhere")])
def test_arguments_of_the_relay_that_make_no_sense_are_refused(memory: MemoryBroker, wrong: tuple[str, str]) -> None:
    with pytest.raises(CommandError):
        relay(*wrong)


def test_a_consumer_says_what_it_did_and_how_far_it_is(memory: MemoryBroker) -> None:
    enter(7)
    relay()
    assert consume() == "orders, billing: 7 executed; lag 0."
    assert json.loads(consume("--json", "--from", "earliest")) == {
        "topic": "orders",
        "group": "billing",
        "counts": {"executed": 0, "expired": 0, "rejected": 0, "replayed": 7},
        "lag": 0,
    }
    assert consume() == "orders, billing: nothing; lag 0."


@pytest.mark.parametrize("begin", ["time:2026-01-31T00:00Z", "time:2020-01-01 10:00", "offset:0=0,1=0"])
def test_reading_may_begin_elsewhere(memory: MemoryBroker, begin: str) -> None:
    enter(5)
    relay()
    assert consume("--from", begin).startswith("orders, billing: ")


@pytest.mark.parametrize(
    "wrong",
    [
        "--max-batch=0",
        "--from=latest",
        "--from=time:x",
        "--from=time:2026-13-01",
        "--from=offset:0",
        "--from=earliest:1",
    ],
)
def test_arguments_of_a_consumer_that_make_no_sense_are_refused(memory: MemoryBroker, wrong: str) -> None:
    with pytest.raises(CommandError):
        consume(wrong)


def test_an_unknown_consumer_ends_with_3_and_says_which_there_are(memory: MemoryBroker) -> None:
    with pytest.raises(CommandError, match="there are: orders/billing") as raised:
        run("idempotency_consume", "orders", "--group", "stock")
    assert raised.value.returncode == 3
    with override_settings(IDEMPOTENCY_BROKERS={}), pytest.raises(CommandError, match="no BACKEND"):
        consume()


def test_poison_stop_ends_with_4_and_names_the_event(memory: MemoryBroker) -> None:
    for number in (1, -2, 3):
        memory.append(message("orders", "a", number))
    with pytest.raises(CommandError, match=r"orders/\d@1 cannot be handled: Refused: negative: -2") as raised:
        consume("--poison", "stop")
    assert raised.value.returncode == 4
    assert Handled.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_both_end_gracefully_when_they_are_told_to(topic: str) -> None:
    enter(20, topic)
    connection.close()
    line = ("idempotency_consume", topic, "--group", "billing", "--json")
    with Command("idempotency_relay", "--json") as relay_, Command(*line, topic=topic) as consumer:
        eventually(lambda: Handled.objects.count() == 20, "all handled")
        assert relay_.end(signal.SIGTERM) == {"published": 20, "parked": 0, "left": 0}
        result = consumer.end(signal.SIGINT)
    assert (result["counts"]["executed"], result["lag"]) == (20, 0)
    assert not OutboxEvent.objects.pending().exists()
    assert sum(ConsumerOffset.objects.values_list("next_offset", flat=True)) == 20


@pytest.fixture
def topic() -> Any:
    return brokers.topic()

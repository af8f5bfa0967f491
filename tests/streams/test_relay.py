"""The relay takes to the broker what was committed, once or more, in the order of each key."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_idempotency.streams import BrokerUnavailable, outbox, publish, publish_many
from django_idempotency.streams.brokers import Message, Producer, Report
from django_idempotency.streams.models import OutboxEvent
from django_idempotency.streams.relay import Relay
from django_idempotency.testing.brokers import MemoryBroker
from tests.campaigns.harness import eventually
from tests.streams.threads import running


def keys(broker: MemoryBroker, topic: str) -> list[str]:
    return [(record.key or b"").decode() for log in broker.logs.get(topic, []) for record in log]


def statuses() -> list[str]:
    return list(OutboxEvent.objects.order_by("id").values_list("status", flat=True))


def test_what_was_committed_is_published_with_its_id_and_headers(memory: MemoryBroker) -> None:
    with transaction.atomic():
        event_id = publish("orders", "o-1", {"number": 1}, headers={"tenant": "acme"})
        publish("orders", "o-1", None)
    assert Relay().run_once().published == 2
    first, second = (record for log in memory.logs["orders"] for record in log)
    headers = {name: value.decode() for name, value in first.headers}
    row = OutboxEvent.objects.first()
    assert row
    assert headers == {
        "event-id": str(event_id),
        "event-time": row.created_at.astimezone(UTC).isoformat(),
        "content-type": "application/json",
        "tenant": "acme",
    }
    assert (first.key, first.value, second.value) == (b"o-1", b'{"number":1}', None)
    assert statuses() == ["published"] * 2
    assert row.published_at
    assert Relay().run_once().published == 0


def test_what_was_rolled_back_is_not_published(memory: MemoryBroker) -> None:
    with transaction.atomic():
        publish("orders", "o-1", {})
        transaction.set_rollback(True)
    assert Relay().run_once().published == 0
    assert memory.logs == {}


def test_a_key_keeps_its_order_over_batches(memory: MemoryBroker) -> None:
    with transaction.atomic():
        publish_many("orders", [(f"o-{number % 7}", {"number": number}) for number in range(100)])
    assert Relay(batch=9).drain().published == 100
    numbers: dict[bytes | None, list[bytes | None]] = {}
    for record in (record for log in memory.logs["orders"] for record in log):
        numbers.setdefault(record.key, []).append(record.value)
    assert len(numbers) == 7
    for number in range(7):
        expected = [b'{"number":%d}' % each for each in range(number, 100, 7)]
        assert numbers[f"o-{number}".encode()] == expected


def test_only_the_topics_that_were_asked_for(memory: MemoryBroker) -> None:
    with transaction.atomic():
        publish("orders", "o-1", {})
        publish("payments", "p-1", {})
    assert Relay(topics=["payments"]).drain().published == 1
    assert statuses() == ["pending", "published"]


def test_what_the_broker_refuses_for_good_is_parked_and_the_rest_flows(
    memory: MemoryBroker, caplog: pytest.LogCaptureFixture, told: list[dict[str, Any]]
) -> None:
    memory.limit, memory.unknown = 10, {"nowhere"}
    with transaction.atomic():
        publish("orders", "o-1", b"short")
        publish("orders", "o-1", b"much too long")
        publish("nowhere", "o-1", b"")
        publish("orders", "o-1", b"too")
    done = Relay().drain()
    assert (done.published, done.parked) == (2, 2)
    assert statuses() == ["published", "parked", "parked", "published"]
    assert list(OutboxEvent.objects.parked().values_list("error", "attempts")) == [
        ("The message is too large.", 1),
        ("There is no topic nowhere.", 1),
    ]
    assert "parked in the outbox: The message is too large." in caplog.text
    assert {(fact["operation"], tuple(sorted(fact["counts"].items()))) for fact in told} == {
        ("orders", (("executed", 2), ("rejected", 1))),
        ("nowhere", (("rejected", 1),)),
    }


def test_parked_events_are_tried_again_or_dropped_by_somebody_with_a_reason(
    memory: MemoryBroker, told: list[dict[str, Any]]
) -> None:
    memory.unknown = {"orders"}
    with transaction.atomic():
        publish_many("orders", [("o-1", 1), ("o-2", 2)])
    Relay().drain()
    memory.unknown = set()
    first, second = OutboxEvent.objects.order_by("id")
    with pytest.raises(ValueError, match="an actor and a reason"):
        outbox.retry_parked(OutboxEvent.objects.all(), actor="user:ann", reason="")
    assert outbox.retry_parked(OutboxEvent.objects.filter(pk=first.pk), actor="user:ann", reason="made it") == 1
    assert outbox.drop_parked(OutboxEvent.objects.filter(pk=second.pk), actor="user:ann", reason="a test") == 1
    assert Relay().drain().published == 1
    assert keys(memory, "orders") == ["o-1"]
    assert [(fact["action"], fact["operation"], fact["actor"]) for fact in told if "action" in fact] == [
        ("retried", "orders", "user:ann"),
        ("dropped", "orders", "user:ann"),
    ]
    assert outbox.retry_parked(OutboxEvent.objects.all(), actor="user:ann", reason="again") == 0


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_loses_nothing_and_is_told_of(
    memory: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    memory.is_down = True
    with transaction.atomic():
        publish("orders", "o-1", {})
    with pytest.raises(BrokerUnavailable):
        Relay().run_once()
    stop, relay = threading.Event(), Relay(poll=0.01)
    with running(lambda: relay.run(stop, on_batch=lambda done: stop.set() if done.published else None)):
        eventually(lambda: "The relay waits" in caplog.text, "a line in the log")
        memory.is_down = False
    assert "nothing is lost: The broker does not answer" in caplog.text
    assert keys(memory, "orders") == ["o-1"]
    assert statuses() == ["published"]


class Halting(Producer):
    """Delivers so many, and has no answer for the rest."""

    def __init__(self, answered: int) -> None:
        self.answered, self.sent = answered, 0

    def send(self, messages: Sequence[Message]) -> list[Report]:
        self.sent += len(messages)
        return [Report(error="" if place < self.answered else "no answer") for place, _ in enumerate(messages)]

    def close(self) -> None:
        pass


def test_what_was_not_acknowledged_is_sent_again(memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    producer = Halting(2)
    monkeypatch.setattr(memory, "producer", lambda: producer)
    with transaction.atomic():
        publish_many("orders", [(f"o-{number}", number) for number in range(3)])
    relay = Relay()
    done = relay.run_once()
    assert (done.published, done.left, statuses()) == (2, 1, ["published", "published", "pending"])
    assert list(OutboxEvent.objects.pending().values_list("error", "attempts")) == [("no answer", 1)]
    assert relay._pause(done, 0) > 0
    producer.answered = 0
    with pytest.raises(BrokerUnavailable, match="no answer"):
        relay.run_once()
    producer.answered = 3
    assert (relay.run_once().published, producer.sent) == (1, 5)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("size", [10, 100])
def test_a_batch_is_so_many_statements_however_large_it_is(memory: MemoryBroker, size: int) -> None:
    with transaction.atomic():
        publish_many("orders", [(f"o-{number}", number) for number in range(size)])
    relay = Relay()
    relay.drain()
    with transaction.atomic():
        publish_many("orders", [(f"o-{number}", number) for number in range(size)])
    with CaptureQueriesContext(connection) as queries:
        assert relay.run_once().published == size
    statements = [query["sql"].split()[0] for query in queries]
    if connection.vendor == "postgresql":
        assert statements == ["BEGIN", "SELECT", "SELECT", "UPDATE", "COMMIT"]
    else:
        assert statements == ["SELECT", "BEGIN", "UPDATE", "COMMIT"]

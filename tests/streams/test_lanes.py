"""Relays side by side: no later event of a key is published while an earlier one is somewhere else."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence

import pytest
from django.db import transaction

from django_idempotency.streams import lanes, publish_many
from django_idempotency.streams.brokers import Message, Producer, Report, get_broker
from django_idempotency.streams.models import OutboxEvent, OutboxLane
from django_idempotency.streams.outbox import LANES, lane_of
from django_idempotency.streams.relay import Relay
from django_idempotency.testing.brokers import MemoryBroker
from tests.campaigns.harness import eventually
from tests.streams.brokers import kafka, servers
from tests.streams.threads import running

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


class Held(Producer):
    """Holds what it was given until it is let go."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.let_go = threading.Event()

    def send(self, messages: Sequence[Message]) -> list[Report]:
        self.messages += messages
        assert self.let_go.wait(30)
        return [Report()] * len(messages)

    def close(self) -> None:
        pass


def enter(topic: str, keys: int, each: int) -> None:
    """Publish numbers for each key, alternating between the keys."""
    with transaction.atomic():
        publish_many(topic, [(f"o-{key}", {"number": number}) for number in range(each) for key in range(keys)])


def test_a_key_of_which_an_event_is_on_its_way_is_nobody_elses(
    memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter("orders", keys=200, each=3)
    producer = Held()
    monkeypatch.setattr(memory, "producer", lambda: producer)
    slow = Relay(batch=150)
    with running(slow.run_once):
        eventually(lambda: producer.messages, "a batch on its way")
        held = {message.key for message in producer.messages}
        assert 0 < len(held) < 200
        with transaction.atomic():
            other = lanes.take("default", 10_000, ())
            assert other
            assert held.isdisjoint(event.business_key.encode() for event in other)
            # Who comes third finds the lanes of both locked, or has the rest of them.
        producer.let_go.set()
    with transaction.atomic():
        left = lanes.take("default", 10_000, (), share=LANES)
    assert len(left) == 600 - len(producer.messages)


def test_a_relay_that_dies_leaves_its_lanes_to_others_at_once(memory: MemoryBroker) -> None:
    enter("orders", keys=5, each=2)
    lanes.ensure("default")
    with transaction.atomic():
        assert lanes.take("default", 100, ())
        transaction.set_rollback(True)
    assert Relay().drain().published == 10


def test_every_event_of_a_key_is_in_one_lane_which_never_changes() -> None:
    assert lane_of("orders", "o-1") == 6
    assert {lane_of("orders", f"o-{number}") for number in range(2000)} == set(range(LANES))


def test_lanes_are_made_once(memory: MemoryBroker) -> None:
    lanes.ensure("default")
    lanes.ensure("default")
    assert OutboxLane.objects.count() == LANES


def test_the_longest_waiting_lanes_come_first_and_a_busy_one_keeps_nobody_waiting() -> None:
    enter("orders", keys=1, each=500)
    enter("payments", keys=300, each=1)
    lanes.ensure("default")
    with transaction.atomic():
        found = lanes.take("default", 100, (), share=4)
    assert found[0].topic == "orders"
    assert {event.topic for event in found} == {"orders", "payments"}
    assert [event.pk for event in found] == sorted(event.pk for event in found)


def test_two_relays_keep_the_order_of_each_key_on_four_partitions(topic: str) -> None:
    enter(topic, keys=40, each=50)
    with kafka(servers()):
        relays = [Relay(batch=90), Relay(batch=70)]
        with running(*(relay.drain for relay in relays)) as done:
            pass
        eventually(lambda: Relay().drain() and not OutboxEvent.objects.pending().exists(), "all published")
        assert len(done) == 2
        assert all(relay.total.published for relay in relays)
        assert sum(relay.total.published for relay in relays) <= 2000
        records = list(get_broker().read(topic, {}))
        for relay in relays:
            relay.close()
    assert len({record.partition for record in records}) == 4
    numbers = defaultdict(list)
    for record in records:
        numbers[record.key].append(record.value)
    assert len(records) == 2000
    assert len(numbers) == 40
    expected = [b'{"number":%d}' % number for number in range(50)]
    assert all(found == expected for found in numbers.values())

"""Inbox, effects and offsets are one transaction: whatever is delivered how often, it is handled once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_idempotency.streams.batches import Applier, Batch
from django_idempotency.streams.brokers import Record
from django_idempotency.streams.errors import Behind, PoisonEvent
from django_idempotency.streams.ids import new_id
from django_idempotency.streams.models import ConsumedEvent, ConsumerOffset, ParkedEvent
from django_idempotency.streams.offsets import Offsets
from django_idempotency.testing.brokers import MemoryBroker
from tests.streams.brokers import message
from tests.streams.models import Handled
from tests.streams.sinks import handle, handle_later, handler


class Topic:
    """A topic of one partition, a consumer of it, and batches as a subscription would have them."""

    def __init__(self, broker: MemoryBroker, topic: str, **options: Any) -> None:
        self.broker, self.topic = broker, topic
        poison = options.pop("poison", "park")
        self.sink = handler(topic, **options)
        self.applier = Applier(self.sink, poison=poison)

    def send(self, *numbers: Any, key: str = "o-1", **headers: Any) -> list[Record]:
        return [self.broker.append(message(self.topic, key, number, **headers)) for number in numbers]

    def start(self) -> None:
        Offsets(self.sink).starts([0])

    def apply(self, records: Iterable[Record], since: int | None = None) -> dict[str, int]:
        records = list(records)
        start = records[0].offset if since is None else since
        counts = self.applier.apply(Batch(records=records, starts={0: start}, ends={0: records[-1].offset + 1}))
        return {outcome: count for outcome, count in counts.items() if count}


@pytest.fixture
def one(topic: str) -> Any:
    from tests.streams import brokers

    with brokers.memory(partitions=1) as broker:
        yield lambda **options: Topic(broker, topic, **options)


def numbers() -> list[int]:
    return list(Handled.objects.order_by("id").values_list("number", flat=True))


def row() -> ConsumerOffset:
    return ConsumerOffset.objects.get()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("function", [handle, handle_later])
def test_events_are_handled_in_order_and_remembered(one: Any, function: Any, told: list[dict[str, Any]]) -> None:
    it = one(function=function)
    records = it.send(1, 2, 3)
    it.start()
    assert it.apply(records) == {"executed": 3}
    assert numbers() == [1, 2, 3]
    assert (row().next_offset, row().read_offset, row().end_offset, row().lag) == (3, 3, 3, 0)
    assert list(ConsumedEvent.objects.order_by("offset").values_list("outcome", "business_key", "offset")) == [
        ("executed", "o-1", 0),
        ("executed", "o-1", 1),
        ("executed", "o-1", 2),
    ]
    (fact,) = told
    assert (fact["operation"], fact["counts"], fact["using"]) == (it.sink.name, {"executed": 3}, "default")


def test_the_same_batch_again_changes_nothing(one: Any) -> None:
    it = one()
    records = it.send(1, 2)
    it.start()
    it.apply(records)
    assert it.apply(records, since=0) == {"replayed": 2}
    assert it.apply(records[1:], since=1) == {"replayed": 1}
    assert numbers() == [1, 2]


def test_an_event_that_was_sent_twice_is_handled_once(one: Any) -> None:
    it, twice = one(), new_id()
    records = [*it.send(1, 2, event_id=twice), *it.send(3)]
    it.start()
    assert it.apply(records) == {"executed": 2, "replayed": 1}
    assert it.apply(it.send(4, event_id=twice)) == {"replayed": 1}
    assert numbers() == [1, 3]


def test_groups_have_inboxes_of_their_own(one: Any) -> None:
    first, second = one(), one(group="stock")
    records = first.send(1)
    for it in (first, second):
        it.start()
        assert it.apply(records) == {"executed": 1}
    assert numbers() == [1, 1]


def test_what_a_stale_member_has_is_dropped_and_the_rest_of_it_is_handled(one: Any) -> None:
    it = one()
    records = it.send(1, 2, 3, 4)
    it.start()
    it.apply(records[:3])
    assert it.apply(records[1:], since=1) == {"executed": 1, "replayed": 2}
    assert numbers() == [1, 2, 3, 4]


def test_nothing_is_skipped(one: Any) -> None:
    it = one()
    records = it.send(1, 2, 3)
    it.start()
    with pytest.raises(Behind, match="not handled up to 1"):
        it.apply(records[1:])
    ConsumerOffset.objects.all().delete()
    with pytest.raises(Behind):
        it.apply(records)
    assert numbers() == []


def test_an_event_that_cannot_be_handled_is_parked_and_the_rest_flows(one: Any, told: list[dict[str, Any]]) -> None:
    it = one()
    records = [*it.send(1, -2, 3), *it.send(b"{", 5)]
    it.start()
    assert it.apply(records) == {"executed": 3, "failed": 1, "rejected": 1}
    assert numbers() == [1, 3, 5]
    assert list(ParkedEvent.objects.order_by("offset").values_list("offset", "kind", "business_key", "status")) == [
        (1, "failed", "o-1", "parked"),
        (3, "rejected", "o-1", "parked"),
    ]
    failed, rejected = ParkedEvent.objects.order_by("offset")
    assert failed.reason == "Refused: negative: -2"
    assert rejected.reason.startswith("Its payload is no JSON")
    assert (bytes(failed.payload or b""), bytes(rejected.payload or b"")) == (b'{"number": -2}', b"{")
    assert ConsumedEvent.objects.get(event_id=failed.event_id).outcome == "failed"
    assert told[0]["counts"] == {"executed": 3, "failed": 1, "rejected": 1}
    assert it.apply(records, since=0) == {"replayed": 5}


def test_what_cannot_be_read_alone_does_not_have_the_batch_handled_one_by_one(one: Any) -> None:
    it = one()
    records = [*it.send(1, b"{"), *it.send(3, **{"event-id": ""}), *it.send(4)]
    it.start()
    assert it.apply(records) == {"executed": 2, "rejected": 2}
    assert sorted(ParkedEvent.objects.values_list("reason", flat=True))[0] == (
        "It has no header 'event-id', by which events are known."
    )
    assert ConsumedEvent.objects.count() == 2


def test_a_duplicate_of_a_parked_event_is_not_handled_either(one: Any) -> None:
    it, same = one(), new_id()
    it.start_records = it.send(-1, event_id=same)
    it.start()
    it.apply(it.start_records)
    assert it.apply(it.send(1, event_id=same)) == {"replayed": 1}
    assert numbers() == []


def test_stop_leaves_off_before_the_event_that_cannot_be_handled(one: Any) -> None:
    it = one(poison="stop")
    records = it.send(1, 2, -3, 4)
    it.start()
    for since in (0, 2):
        with pytest.raises(PoisonEvent, match=r"/0@2 cannot be handled: Refused: negative: -3"):
            it.apply(records[since:])
        assert (numbers(), row().next_offset) == ([1, 2], 2)
    assert not ParkedEvent.objects.exists()
    broken = one(poison="stop", group="other")
    broken.start()
    broken.apply(records[:2])
    records = [*records[:2], *it.send(b"{")]
    ConsumerOffset.objects.filter(group="other").update(next_offset=4)
    with pytest.raises(PoisonEvent, match="no JSON"):
        broken.apply(records[2:])


def test_a_transaction_that_fails_leaves_nothing(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    it = one()
    records = it.send(1)
    it.start()

    def fail(*args: Any) -> None:
        raise RuntimeError("at the very end")

    monkeypatch.setattr(it.applier, "_tell", fail)
    with pytest.raises(RuntimeError, match="at the very end"):
        it.apply(records)
    assert (numbers(), ConsumedEvent.objects.count(), row().next_offset) == ([], 0, 0)


def test_a_handler_that_meets_a_rival_is_tried_again(one: Any, caplog: pytest.LogCaptureFixture) -> None:
    attempts = []

    def meet(event: Any, context: Any) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            handle(event, context)
            with transaction.atomic():
                connection.cursor().execute("SELECT no_such_column FROM tests_handled")
        handle(event, context)

    it = one(function=meet)
    records = it.send(1)
    it.start()
    with caplog.at_level(logging.INFO, "django_idempotency.streams"):
        assert it.apply(records) == {"executed": 1}
    assert (attempts, numbers()) == ([1, 2], [1])
    assert "a batch is tried again" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("size", [1, 200])
def test_a_batch_is_so_many_statements_however_large_it_is(one: Any, size: int) -> None:
    it = one(function=lambda event, context: None)
    records = it.send(*range(size))
    it.start()
    with CaptureQueriesContext(connection) as queries:
        assert it.apply(records) == {"executed": size}
    statements = [query["sql"].split()[0] for query in queries]
    # Offsets locked; inbox; floor; offsets moved; the audit of the batch.
    assert statements == ["BEGIN", "SELECT", "INSERT", "SELECT", "INSERT", "INSERT", "COMMIT"]
    with CaptureQueriesContext(connection) as queries:
        assert it.apply(records, since=0) == {"replayed": size}
    assert [query["sql"].split()[0] for query in queries] == ["BEGIN", "SELECT", "INSERT", "INSERT", "COMMIT"]

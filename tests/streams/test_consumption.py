"""Reading goes on where the table says, whatever the broker forgets or repeats."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_idempotency.streams import consumption
from django_idempotency.streams.consumption import Consumption
from django_idempotency.streams.ids import new_id
from django_idempotency.streams.models import ConsumedEvent, ConsumerOffset
from django_idempotency.streams.offsets import Rewind
from django_idempotency.testing.brokers import MemoryBroker
from tests.campaigns.harness import eventually
from tests.streams.brokers import message
from tests.streams.models import Handled, Sum
from tests.streams.sinks import handler, projection
from tests.streams.subjects import consume
from tests.streams.threads import running


def send(broker: MemoryBroker, topic: str, *numbers: int, at: datetime | None = None) -> None:
    for number in numbers:
        broker.append(message(topic, f"o-{number % 5}", number), at=at)


def handled() -> list[int]:
    return sorted(Handled.objects.values_list("number", flat=True))


def rows() -> list[tuple[int, int]]:
    return list(ConsumerOffset.objects.order_by("partition").values_list("next_offset", "read_offset"))


def decisions(told: list[dict[str, Any]]) -> list[str]:
    return [fact["action"] for fact in told if "action" in fact]


def test_a_group_begins_at_the_start_and_goes_on_where_it_was(memory: MemoryBroker, topic: str) -> None:
    send(memory, topic, *range(20))
    sink = handler(topic)
    assert consume(sink, max_batch=7) == {"executed": 20}
    send(memory, topic, 20, 21)
    assert consume(sink) == {"executed": 2}
    assert handled() == list(range(22))
    assert sum(memory.committed[topic, "billing"].values()) == 22


def test_a_group_may_begin_at_the_end_but_not_in_partitions_that_come_later(memory: MemoryBroker, topic: str) -> None:
    send(memory, topic, *range(10))
    sink = handler(topic, start="latest")
    assert consume(sink) == {}
    send(memory, topic, 10)
    ConsumerOffset.objects.order_by("partition").last().delete()  # type: ignore[union-attr]
    last = len(memory.logs[topic][3])
    assert consume(sink) == {"executed": 1 + last - (10 % 5 in _keys_of(memory, topic, 3))}


def _keys_of(broker: MemoryBroker, topic: str, partition: int) -> set[int]:
    return {int((record.key or b"").decode().removeprefix("o-")) for record in broker.logs[topic][partition]}


def test_a_full_rewind_reads_everything_and_handles_nothing(
    memory: MemoryBroker, topic: str, told: list[dict[str, Any]]
) -> None:
    send(memory, topic, *range(20))
    sink = projection(topic)
    consume(sink)
    before = list(Sum.objects.order_by("key").values_list("key", "total", "changed"))
    assert consume(sink, rewind=Rewind()) == {"replayed": 20}
    ConsumedEvent.objects.all().delete()
    assert consume(sink, rewind=Rewind()) == {"replayed": 20}
    assert list(Sum.objects.order_by("key").values_list("key", "total", "changed")) == before


def test_a_replay_shows_how_far_it_is(memory: MemoryBroker, topic: str) -> None:
    send(memory, topic, *range(20))
    sink = handler(topic)
    consume(sink)
    stop = threading.Event()
    replay = Consumption(sink, rewind=Rewind(), max_batch=1, poll=0.01)
    replay.run(stop, on_batch=lambda counts: stop.set())
    row = ConsumerOffset.objects.get(read_offset=1)
    assert row.is_replaying
    assert row.next_offset > 1


def test_reading_may_begin_at_a_time_or_at_offsets(memory: MemoryBroker, topic: str) -> None:
    now = datetime.now(UTC)
    send(memory, topic, *range(10), at=now - timedelta(hours=2))
    send(memory, topic, *range(10, 15), at=now)
    assert consume(handler(topic, "since"), rewind=Rewind(at=now - timedelta(hours=1))) == {"executed": 5}
    assert handled() == list(range(10, 15))
    ends = {partition: end for partition, (_, end) in memory.bounds(topic).items()}
    back = {partition: end - 1 for partition, end in ends.items() if end}
    assert consume(handler(topic, "at"), rewind=Rewind(offsets=back)) == {"executed": len(back)}


def test_to_leave_events_out_is_a_decision(memory: MemoryBroker, topic: str, told: list[dict[str, Any]]) -> None:
    send(memory, topic, *range(10))
    sink = handler(topic)
    ends = {partition: end for partition, (_, end) in memory.bounds(topic).items()}
    consume(handler(topic, "other"))
    assert consume(sink, rewind=Rewind(offsets={0: 0})) == {"executed": 10}
    send(memory, topic, *range(10, 20))
    further = {partition: end for partition, (_, end) in memory.bounds(topic).items()}
    assert consume(sink, rewind=Rewind(offsets=further)) == {}
    skipped = [fact for fact in told if fact.get("action") == "skipped"]
    assert len(skipped) == sum(further[partition] > end for partition, end in ends.items())
    assert {fact["operation"] for fact in skipped} == {f"{topic}/billing"}


def test_a_broker_that_was_restarted_empty_is_read_from_the_start_and_nothing_counts_twice(
    memory: MemoryBroker, topic: str, told: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    again = new_id()
    send(memory, topic, *range(20))
    memory.append(message(topic, "o-1", 20, event_id=again))
    sink = handler(topic)
    assert consume(sink) == {"executed": 21}
    memory.forget_all()
    memory.append(message(topic, "o-1", 20, event_id=again))
    send(memory, topic, 21, 22)
    assert consume(sink) == {"executed": 2, "replayed": 1}
    assert handled() == list(range(23))
    assert set(decisions(told)) == {"restarted"}
    assert "before or apart from what was read" in caplog.text
    assert set(ConsumerOffset.objects.values_list("epoch", flat=True)) == {1}


@pytest.mark.django_db(transaction=True)
def test_a_restart_is_found_out_while_nothing_comes(
    memory: MemoryBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumption, "_VERIFIED_EVERY", 0.05)
    monkeypatch.setattr(consumption, "_SHORTEST_PAUSE", 0.01)
    send(memory, topic, *range(20))
    stop = threading.Event()
    with running(lambda: Consumption(handler(topic), poll=0.01).run(stop)):
        eventually(lambda: Handled.objects.count() == 20, "all handled")
        memory.forget_all()
        send(memory, topic, 20)
        eventually(lambda: Handled.objects.count() == 21, "the new log read")
        stop.set()
    assert handled() == list(range(21))


def test_what_the_broker_has_dropped_unread_is_told(
    memory: MemoryBroker, topic: str, told: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    send(memory, topic, *range(10))
    sink = handler(topic)
    consume(sink)
    send(memory, topic, *range(10, 30))
    for log in memory.logs[topic]:
        del log[:-1]
    lost = 20 - consume(sink)["executed"]
    assert lost > 0
    assert set(decisions(told)) == {"skipped"}
    assert "no longer has what comes before" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_is_waited_for(
    memory: MemoryBroker, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consumption, "_SHORTEST_PAUSE", 0.01)
    send(memory, topic, *range(5))
    stop = threading.Event()
    memory.is_down = True
    with running(lambda: Consumption(handler(topic), poll=0.01).run(stop)):
        eventually(lambda: "nothing is lost: The broker does not answer" in caplog.text, "a line in the log")
        memory.is_down = False
        eventually(lambda: Handled.objects.count() == 5, "all handled")
        memory.is_down = True
        eventually(lambda: "for the broker, nothing is lost" in caplog.text, "another line")
        memory.is_down = False
        send(memory, topic, 5)
        eventually(lambda: Handled.objects.count() == 6, "all handled")
        stop.set()


@pytest.mark.django_db(transaction=True)
def test_what_the_table_no_longer_has_is_read_again(
    memory: MemoryBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumption, "_SHORTEST_PAUSE", 0.01)
    send(memory, topic, *range(10))
    stop = threading.Event()
    with running(lambda: Consumption(handler(topic), poll=0.01).run(stop)):
        eventually(lambda: Handled.objects.count() == 10, "all handled")
        # As where the database is restored from a backup.
        for model in (Handled, ConsumedEvent, ConsumerOffset):
            model.objects.all().delete()
        send(memory, topic, *range(10, 15))
        eventually(lambda: Handled.objects.count() == 15, "everything handled again")
        stop.set()
    assert handled() == list(range(15))
    assert len(rows()) == 4

"""Members that the broker does not keep apart: the rows of the offsets do."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from django.db import connection

from django_idempotency.streams.batches import Applier, Batch
from django_idempotency.streams.ids import new_id
from django_idempotency.streams.models import ConsumerOffset
from django_idempotency.streams.offsets import Offsets, Rewind
from django_idempotency.testing.brokers import MemoryBroker
from tests.campaigns.harness import eventually
from tests.streams.brokers import message
from tests.streams.models import Handled, Sum
from tests.streams.sinks import handler, projection
from tests.streams.subjects import consume
from tests.streams.threads import running

EVENTS = 400

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("view", [True, False])
def test_three_rivals_that_all_read_everything_handle_each_event_once(
    memory: MemoryBroker, topic: str, view: bool
) -> None:
    for number in range(EVENTS):
        memory.append(message(topic, f"k{number % 13}", number))
    make: Any = projection if view else handler
    with running(*[lambda: consume(make(topic), max_batch=23, rewind=Rewind())] * 3) as results:
        pass
    totals: Counter[str] = Counter()
    for counts in results:
        totals.update(counts)
    assert totals["executed"] == EVENTS
    assert totals["replayed"] == 2 * EVENTS
    if view:
        found = dict(Sum.objects.values_list("key", "total"))
        assert found == {f"k{key}": sum(range(key, EVENTS, 13)) for key in range(13)}
    else:
        assert sorted(Handled.objects.values_list("number", flat=True)) == list(range(EVENTS))
    assert sum(ConsumerOffset.objects.values_list("next_offset", flat=True)) == EVENTS


def test_rows_that_two_partitions_have_in_common_are_added_up_by_both(memory: MemoryBroker, topic: str) -> None:
    """As where a view has another key than its topic: rivals insert and change the same rows."""
    for number in range(EVENTS):
        memory.append(message(topic, f"k{number}", 1))
    sinks = [projection(topic) for _ in range(2)]
    for sink, partitions in zip(sinks, ({0, 1}, {2, 3}), strict=True):
        sink.key_of = lambda event: "abcde"[hash(event.business_key) % 5]  # type: ignore[method-assign]
        sink.group = f"sums {min(partitions)}"

    def of(sink: Any, partitions: set[int]) -> Any:
        return lambda: consume(_Only(sink, partitions).sink, max_batch=11)

    with running(*(of(sink, partitions) for sink, partitions in zip(sinks, ({0, 1}, {2, 3}), strict=True))):
        pass
    assert sum(Sum.objects.values_list("total", flat=True)) == EVENTS


@pytest.mark.postgresql
def test_a_batch_waits_for_that_of_a_rival_and_then_finds_that_it_is_behind(memory: MemoryBroker, topic: str) -> None:
    """Copies that even the inbox could not tell: each record counts as an event of its own."""
    records = [memory.append(message(topic, "k", number, event_id=new_id())) for number in range(3)]
    sink = projection(topic, event_id=lambda record: str(new_id()))
    starts = {records[0].partition: 0}
    Offsets(sink).starts(starts)
    inside, go_on = threading.Event(), threading.Event()
    first = projection(topic, event_id=sink.event_id)
    handle = first.handle

    def linger(*arguments: Any) -> None:
        inside.set()
        assert go_on.wait(30)
        handle(*arguments)

    first.handle = linger  # type: ignore[method-assign]
    batch = Batch(records=records, starts=starts)

    def second() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET application_name = 'second'")
        return Applier(sink).apply(batch)

    with running(lambda: Applier(first).apply(batch)):
        assert inside.wait(30)
        with running(second) as results:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock'"
            )
            with connection.cursor() as cursor:
                eventually(lambda: cursor.execute(waiting).fetchone()[0] or results, "the second batch waits")
            go_on.set()
    assert results[0] == {"executed": 0, "expired": 0, "rejected": 0, "replayed": 3}
    assert Sum.objects.get().total == 3


class _Only:
    """A sink that leaves the events of other partitions alone."""

    def __init__(self, sink: Any, partitions: set[int]) -> None:
        self.sink = sink
        handle = sink.handle
        sink.handle = lambda events, context: handle(
            [event for event in events if event.partition in partitions], context
        )

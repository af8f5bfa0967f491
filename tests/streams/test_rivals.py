"""Members that the broker does not keep apart: the rows of the offsets do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from django_idempotency.streams.models import ConsumerOffset
from django_idempotency.streams.offsets import Rewind
from django_idempotency.testing.brokers import MemoryBroker
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


class _Only:
    """A sink that leaves the events of other partitions alone."""

    def __init__(self, sink: Any, partitions: set[int]) -> None:
        self.sink = sink
        handle = sink.handle
        sink.handle = lambda events, context: handle(
            [event for event in events if event.partition in partitions], context
        )

"""Rows that are derived from events: each event counts once, whatever is delivered."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_idempotency.streams.batches import Applier, Batch
from django_idempotency.streams.ids import new_id
from django_idempotency.streams.models import ConsumedEvent, ConsumerOffset, ParkedEvent
from django_idempotency.streams.offsets import Offsets
from django_idempotency.testing.brokers import MemoryBroker
from tests.streams.brokers import memory as memory_broker
from tests.streams.brokers import message
from tests.streams.models import PositionedSum, Sum
from tests.streams.sinks import PositionedSums, Sums, projection


class View:
    """A projection of one partition."""

    def __init__(self, broker: MemoryBroker, topic: str, kind: type[Any] = Sums, **options: Any) -> None:
        self.broker, self.topic = broker, topic
        self.sink = projection(topic, kind, **options)
        self.applier = Applier(self.sink)
        Offsets(self.sink)

    def send(self, *events: tuple[str, Any], **more: Any) -> None:
        for key, number in events:
            self.broker.append(message(self.topic, key, number, **more))

    def apply(self, since: int | None = None) -> dict[str, int]:
        starts = Offsets(self.sink).starts([0])
        start = starts[0] if since is None else since
        records = list(self.broker.read(self.topic, {0: start}))
        return dict(self.applier.apply(Batch(records=records, starts={0: start})))


@pytest.fixture
def view(topic: str) -> Any:
    with memory_broker(partitions=1) as broker:
        yield lambda kind=Sums, **options: View(broker, topic, kind, **options)


def totals() -> dict[str, int]:
    return dict(Sum.objects.values_list("key", "total"))


def test_a_row_is_what_its_events_come_to(view: Any) -> None:
    it = view()
    it.send(("a", 1), ("b", 10), ("a", 2), ("c", 0))
    it.apply()
    assert totals() == {"a": 3, "b": 10}
    it.send(("a", 4), ("d", 7))
    it.apply()
    assert totals() == {"a": 7, "b": 10, "d": 7}
    assert Sum.objects.get(key="a").last == 4


def test_rows_keep_when_they_were_made_and_tell_when_they_were_changed(view: Any) -> None:
    it = view()
    it.send(("a", 1))
    it.apply()
    first = Sum.objects.get()
    it.send(("a", 1))
    it.apply()
    second = Sum.objects.get()
    assert (second.pk, second.made) == (first.pk, first.made)
    assert second.changed > first.changed


def test_a_rewind_into_a_live_view_changes_nothing(view: Any) -> None:
    it = view()
    it.send(("a", 1), ("b", 2), ("a", 3))
    it.apply()
    assert it.apply(since=0)["replayed"] == 3
    ConsumedEvent.objects.all().delete()
    assert it.apply(since=0)["replayed"] == 3
    assert totals() == {"a": 4, "b": 2}


def test_a_tombstone_deletes_its_row_and_what_follows_begins_anew(view: Any) -> None:
    it = view()
    it.send(("a", 1), ("b", 2))
    it.apply()
    pk = Sum.objects.get(key="a").pk
    it.send(("a", None), ("b", None), ("a", 5), ("c", None))
    it.apply()
    assert totals() == {"a": 5}
    assert Sum.objects.get().pk == pk


def test_a_tombstone_may_be_an_event_like_others(view: Any) -> None:
    it = view(delete_on_tombstone=False)
    it.send(("a", 1), ("a", None))
    it.apply()
    assert totals() == {"a": 0}


def test_an_event_that_cannot_be_applied_is_parked_and_its_neighbours_are_applied(view: Any) -> None:
    it = view()
    it.send(("a", 1), ("a", "text"), ("", 4), ("a", 2))
    counts = it.apply()
    assert (counts["executed"], counts["failed"]) == (2, 2)
    assert totals() == {"a": 3}
    assert ParkedEvent.objects.get(offset=2).reason == "ValueError: The event is about no key."


def test_a_row_that_a_rival_inserts_meanwhile_is_not_lost(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    it = view()
    it.send(("a", 1))
    changes = it.sink._changes
    met = []

    def meet(events: Any) -> Any:
        found = changes(events)
        if not met:
            met.append(Sum.objects.create(key="a", total=100))
        return found

    monkeypatch.setattr(it.sink, "_changes", meet)
    it.apply()
    assert totals() in ({"a": 101}, {"a": 1})  # on one connection, the rival's row is rolled back with the batch
    assert Sum.objects.count() == 1


def test_a_row_that_knows_its_place_is_not_changed_by_what_came_before(view: Any) -> None:
    it = view(PositionedSums)
    it.send(("7", 1), ("7", 2))
    it.apply()
    for model in (ConsumedEvent, ConsumerOffset):
        model.objects.all().delete()
    it.apply()
    it.send(("7", 4))
    it.apply()
    row = PositionedSum.objects.get()
    assert (row.number, row.total, row.source_partition, row.source_version) == (7, 7, 0, 2)


def test_a_log_that_begins_anew_does_not_begin_before_what_rows_know(view: Any) -> None:
    it, again = view(PositionedSums), new_id()
    it.send(("7", 1))
    it.send(("7", 2), event_id=again)
    it.apply()
    it.broker.forget_all()
    it.send(("7", 2), event_id=again)
    it.send(("7", 4))
    it.apply()
    assert PositionedSum.objects.get().total == 7


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("size", [5, 100])
def test_a_batch_is_so_many_statements_however_large_it_is(view: Any, size: int) -> None:
    it = view()
    it.send(*((f"k{number % (size // 2)}", 1) for number in range(size)))
    it.apply()
    it.send(*((f"k{number}", 1) for number in range(size)))
    Offsets(it.sink).starts([0])
    records = list(it.broker.read(it.topic, {0: size}))
    with CaptureQueriesContext(connection) as queries:
        it.applier.apply(Batch(records=records, starts={0: size}))
    statements = [query["sql"].split()[0] for query in queries]
    # As for any batch, and: rows locked, new ones inserted, the others updated.
    kept = [statement for statement in statements if statement not in ("SAVEPOINT", "RELEASE")]
    assert kept == ["BEGIN", "SELECT", "INSERT", "SELECT", "SELECT", "INSERT", "INSERT", "INSERT", "INSERT", "COMMIT"]

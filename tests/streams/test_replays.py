"""A new version of a view is built from the start of its topic, beside the live one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from django_idempotency import purging
from django_idempotency.reprocessing import IterableSource, Rollout, VersionedProjection
from django_idempotency.streams.ids import new_id
from django_idempotency.streams.models import ConsumedEvent
from django_idempotency.streams.replays import TopicReader, unseen
from django_idempotency.testing.brokers import MemoryBroker
from tests.reprocessing.models import Total
from tests.reprocessing.projections import add, clear
from tests.reprocessing.test_rollouts import WHO
from tests.streams.brokers import message

TOPIC = "charges"

pytestmark = pytest.mark.django_db(transaction=True)


class Totals(VersionedProjection, register=False):
    """Adds up what events say, each once."""

    model = Total
    name = "stream totals"
    source = IterableSource(TopicReader(TOPIC), type=str)
    batch_size = 7

    def apply(self, into: Any, rows: Sequence[Any]) -> None:
        for event in unseen(rows, group=f"{self.name} v{self.version}", using=self.using):
            add(into, event.business_key, event.data["number"])


@pytest.fixture(autouse=True)
def _cleared() -> Any:
    clear()
    yield
    clear()


def test_a_reader_goes_on_behind_a_position(memory: MemoryBroker) -> None:
    for number in range(20):
        memory.append(message(TOPIC, f"k{number}", number))
    memory.append(message(TOPIC, "k1", b"{"))
    found = list(TopicReader(TOPIC)(None))
    assert sorted(event.data["number"] for _, event in found) == list(range(20))
    positions = [position for position, _ in found]
    assert positions == sorted(positions)
    assert len(set(positions)) == 20
    rest = [event.data["number"] for _, event in TopicReader(TOPIC)(positions[4])]
    assert rest == [event.data["number"] for _, event in found[5:]]
    assert list(TopicReader(TOPIC)(positions[-1])) == []


def test_a_rebuild_counts_each_event_once_and_catches_up(memory: MemoryBroker) -> None:
    twice = new_id()
    for number in range(1, 21):
        memory.append(message(TOPIC, f"k{number % 3}", number))
    for _ in range(2):
        memory.append(message(TOPIC, "k0", 100, event_id=twice))
    rollout: Any = Rollout(Totals(version=1))
    rollout.build()
    memory.append(message(TOPIC, "k0", 100, event_id=twice))
    memory.append(message(TOPIC, "k1", 1000))
    rollout.catch_up()
    rollout.promote(WHO)
    assert dict(Total.objects.values_list("account", "amount")) == {
        f"k{key}": sum(range(key or 3, 21, 3)) + {0: 100, 1: 1000, 2: 0}[key] for key in range(3)
    }


def test_what_a_rebuild_has_seen_is_remembered_from_then_on_however_old_it_is(memory: MemoryBroker) -> None:
    long_ago = int((datetime.now(UTC) - timedelta(days=90)).timestamp() * 1000)
    old = type(new_id())(int=long_ago << 80 | 7 << 76 | 2 << 62)
    memory.append(message(TOPIC, "k0", 1, event_id=old))
    ((_, event),) = TopicReader(TOPIC)(None)
    with transaction.atomic():
        assert unseen([event, event], group="v2", using="default") == [event]
    purging.purge(only=["inbox"], pause=0)
    with transaction.atomic():
        assert unseen([event], group="v2", using="default") == []
    assert ConsumedEvent.objects.count() == 1

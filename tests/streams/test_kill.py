"""SIGKILL of consumers, rivals, a full rewind, and a purge followed by one: the view is what it should be.

The long campaign over the same steps is in ``tests/campaigns``; here each step is taken once.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connection, transaction

from django_idempotency.streams import publish_many
from django_idempotency.streams.models import ConsumedEvent, OutboxEvent
from django_idempotency.streams.offsets import Rewind
from django_idempotency.streams.relay import Relay
from tests.streams.models import Sum
from tests.streams.processes import consumer
from tests.streams.sinks import projection
from tests.streams.subjects import consume

EVENTS = 300

pytestmark = pytest.mark.django_db(transaction=True)


def publish_with_duplicates(broker: Any, topic: str) -> dict[str, int]:
    """Publish numbers, every fifth of them sent twice; return the sums by key."""
    expected: Counter[str] = Counter()
    for number in range(1, EVENTS + 1):
        expected[f"k{number % 17}"] += number
    with transaction.atomic():
        publish_many(topic, [(f"k{number % 17}", {"number": number}) for number in range(1, EVENTS + 1)])
    relay = Relay()
    relay.drain()
    # As a relay does that dies between the broker's answer and its own commit.
    again = OutboxEvent.objects.order_by("id").values_list("pk", flat=True)[::5]
    OutboxEvent.objects.filter(pk__in=list(again)).update(status="pending", published_at=None)
    assert relay.drain().published == EVENTS + EVENTS // 5
    relay.close()
    return dict(expected)


def totals() -> dict[str, int]:
    return dict(Sum.objects.values_list("key", "total"))


def counts(result: dict[str, Any]) -> dict[str, int]:
    return {outcome: count for outcome, count in result["counts"].items() if count}


@pytest.fixture
def expected(kafka: Any, topic: str) -> dict[str, int]:
    found = publish_with_duplicates(kafka, topic)
    connection.close()
    return found


@pytest.mark.parametrize("place", ["inside", "between"])
def test_a_consumer_that_is_killed_loses_nothing_and_counts_nothing_twice(
    expected: dict[str, int], topic: str, place: str
) -> None:
    with consumer(topic, "--max-batch", "100", TEST_WAIT_AT=place) as killed:
        assert killed.wait_for_line() == place
        killed.kill()
    handled = ConsumedEvent.objects.count()
    assert (handled > 0) == (place == "between")
    with consumer(topic) as member:
        assert counts(member.result())["executed"] == EVENTS - handled
    assert totals() == expected


def test_three_members_a_rewind_and_a_purge_with_a_rewind_leave_the_view_as_it_should_be(
    expected: dict[str, int], topic: str
) -> None:
    with ExitStack() as stack:
        members = [stack.enter_context(consumer(topic, "--max-batch", "20")) for _ in range(3)]
        executed = sum(counts(member.result()).get("executed", 0) for member in members)
    assert (executed, totals()) == (EVENTS, expected)
    for forgotten in (ConsumedEvent.objects.none(), ConsumedEvent.objects.all()):
        forgotten.delete()
        assert consume(projection(topic), rewind=Rewind()) == {"replayed": EVENTS + EVENTS // 5}
        assert totals() == expected

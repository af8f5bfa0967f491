"""A broker that is down, hangs, or comes back empty: nothing is lost, and log and monitor say what waits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from typing import Any

import pytest
from django.test import override_settings

from django_idempotency.models import AuditEvent, ConsumerOffset, OutboxEvent
from django_idempotency.streams import outbox
from django_idempotency.streams.boards import read
from django_idempotency.streams.brokers import get_broker
from django_idempotency.streams.consumption import Consumption
from django_idempotency.streams.relay import Relay
from tests.campaigns.harness import eventually
from tests.campaigns.streaming.books import Books
from tests.campaigns.streaming.consumers import GROUP, TOPIC, RunningTotals
from tests.kafka_servers import Kafka, started_kafka
from tests.streams.threads import running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

EVENTS = 40


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    with started_kafka() as kafka, override_settings(IDEMPOTENCY_BROKERS=kafka.impatient_brokers):
        get_broker().bounds(TOPIC)
        yield kafka


@pytest.fixture
def books() -> Books:
    return Books(accounts=7, seed=1)


@contextmanager
def at_work(*, consuming: bool = True) -> Iterator[None]:
    """Relay and consume beside the block."""
    stop = Flag()

    def consume() -> Any:
        return Consumption(RunningTotals(), poll=0.05).run(stop)

    with running(lambda: Relay(poll=0.02).run(stop), *([consume] if consuming else [])):
        try:
            yield
        finally:
            stop.set()


def waits() -> dict[tuple[str, ...], float]:
    """Return what a monitor is told."""
    return {(reading.gauge.name, *reading.values): reading.value for reading in read("default")}


def until_right(books: Books) -> None:
    try:
        eventually(lambda: not books.differences(), "the view to be right")
    except AssertionError:
        raise AssertionError(books.differences()) from None


def test_what_is_published_while_the_broker_is_down_arrives_when_it_is_back(
    kafka: Kafka, books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "django_idempotency.streams")
    with at_work():
        books.publish(EVENTS)
        until_right(books)
        kafka.server.stop()
        books.publish(EVENTS)
        eventually(lambda: "The relay waits" in caplog.text, "the relay's line")
        eventually(lambda: "RunningTotals" in caplog.text, "the consumer's line")
        told = waits()
        assert told["outbox_events", "pending"] == EVENTS
        assert told["outbox_oldest_pending_seconds",] > 0
        kafka.server.start()
        until_right(books)
    assert "nothing is lost" in caplog.text
    assert not OutboxEvent.objects.pending().exists()
    assert waits()["outbox_oldest_pending_seconds",] == 0


def test_a_broker_that_hangs_is_waited_for(kafka: Kafka, books: Books, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "django_idempotency.streams")
    with at_work():
        books.publish(EVENTS)
        until_right(books)
        kafka.server.pause()
        try:
            books.publish(EVENTS)
            eventually(lambda: "The relay waits" in caplog.text, "the relay's line")
            assert waits()["outbox_events", "pending"] == EVENTS
        finally:
            kafka.server.go_on()
        until_right(books)
    assert ConsumerOffset.objects.filter(group=GROUP, epoch=0).count() == 4


def test_what_a_broker_has_lost_is_sent_again_and_counts_once(
    kafka: Kafka, books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    with at_work():
        books.publish(EVENTS)
        until_right(books)
    with at_work(consuming=False):
        books.publish(EVENTS)
        eventually(lambda: not OutboxEvent.objects.pending().exists(), "all to be with the broker")
    kafka.server.stop()
    kafka.server.start()
    get_broker().bounds(TOPIC)
    # Before the relay goes on, so that they keep their place in the order of their keys.
    assert outbox.publish_again(OutboxEvent.objects.published(), actor="user:ada", reason="lost") == 2 * EVENTS
    with at_work():
        books.publish(EVENTS)
        until_right(books)
    assert ConsumerOffset.objects.filter(epoch=1).count() == 4
    assert "before or apart from what was read" in caplog.text
    decisions = AuditEvent.objects.filter(layer="streams").exclude(actor="")
    assert set(decisions.values_list("event", flat=True)) == {"restarted", "published_again"}


def test_lag_is_told_while_nobody_handles(kafka: Kafka, books: Books) -> None:
    with at_work():
        books.publish(EVENTS)
        until_right(books)
    with at_work(consuming=False):
        books.publish(EVENTS)
        eventually(lambda: not OutboxEvent.objects.pending().exists(), "all to be with the broker")
    assert lag(waits()) == 0  # as it was seen last
    from django_idempotency.streams.figures import lags

    assert sum(each.lag or 0 for each in lags(is_live=True) if each.group == GROUP) == EVENTS
    kafka.server.stop()
    assert sum(each.lag or 0 for each in lags(is_live=True) if each.group == GROUP) == 0


def lag(told: dict[tuple[str, ...], float]) -> Any:
    return sum(value for name, value in told.items() if name[0] == "consumer_lag")

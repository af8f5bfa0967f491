"""The ways to publish and to consume that are compared; each returns how many events a second it got through."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event as Flag
from typing import Any
from uuid import uuid4

import confluent_kafka
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import ConsumedEvent, OutboxEvent
from django_idempotency.streams import Event, publish_many
from django_idempotency.streams.brokers import get_broker
from django_idempotency.streams.consumption import Consumption
from django_idempotency.streams.ids import new_id
from django_idempotency.streams.relay import Relay
from tests.campaigns.streaming.consumers import TOPIC, RunningTotals
from tests.campaigns.streaming.models import RunningTotal

BATCH, ACCOUNTS = 500, 5000
_RELAYED = "relayed"
_IDS = ("pk", "business_key", "payload", "headers", "event_id", "created_at")
_SERVERS = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]}
_PRODUCER = {**_SERVERS, "enable.idempotence": True, "partitioner": "murmur2_random"}
_CONSUMER = {**_SERVERS, "session.timeout.ms": 1500, "heartbeat.interval.ms": 300, "enable.auto.commit": False}
_rounds = itertools.count()


class Pace:
    """Counts from the first batch on: to join a group, and to fetch for the first time, is no work on events."""

    def __init__(self) -> None:
        self.seen, self._first, self._started = 0, 0, 0.0

    def add(self, count: int) -> None:
        """Count a batch that is done."""
        self.seen += count
        if not self._started:
            self._first, self._started = self.seen, time.perf_counter()

    @property
    def rate(self) -> float:
        """Events a second so far."""
        return (self.seen - self._first) / (time.perf_counter() - self._started)


def prepare(count: int) -> dict[str, Callable[[], float]]:
    """Fill a topic and an outbox with so many events; return the ways."""
    get_broker().bounds(TOPIC)
    get_broker().bounds(_RELAYED)
    producer = confluent_kafka.Producer(_PRODUCER)
    for number in range(count):
        account, payload = _event(number)
        headers = {"event-id": str(new_id()), "content-type": "application/json"}
        producer.produce(TOPIC, json.dumps(payload), account, headers=headers)
        producer.poll(0)
    assert producer.flush(60) == 0
    with transaction.atomic():
        publish_many(_RELAYED, map(_event, range(count)))
    return {
        "consumer": lambda: consume(count),
        "bare consumer": lambda: consume_bare(count),
        "relay": lambda: relay(count),
        "bare relay": relay_bare,
    }


def _event(number: int) -> tuple[str, dict[str, Any]]:
    return f"account-{number % ACCOUNTS}", {"amount": number, "sequence": number // ACCOUNTS + 1, "note": "x" * 80}


def consume(count: int) -> float:
    """Consume with inbox, view and offsets in one transaction a batch."""
    _clear()
    sink, stop, pace = RunningTotals(), Flag(), Pace()
    sink.group = f"consumer-{next(_rounds)}"

    def on_batch(counts: Any) -> None:
        pace.add(counts["executed"])
        if pace.seen == count:
            rates.append(pace.rate)
            stop.set()

    rates: list[float] = []
    Consumption(sink, max_batch=BATCH).run(stop, on_batch=on_batch)
    assert ConsumedEvent.objects.count() == count
    return _checked(rates[0], count)


def consume_bare(count: int) -> float:
    """Consume into the view alone; offsets are the broker's."""
    _clear()
    sink, pace, at = RunningTotals(), Pace(), datetime.now(UTC)
    client = confluent_kafka.Consumer(
        {**_CONSUMER, "group.id": f"bare-{next(_rounds)}", "auto.offset.reset": "earliest"}
    )
    client.subscribe([TOPIC])
    while pace.seen < count:
        first = client.poll(0.5)
        messages = [first, *client.consume(BATCH - 1, 0.01)] if first else []
        events = [
            Event(
                event_id=uuid4(),
                topic=TOPIC,
                business_key=message.key().decode(),
                data=json.loads(message.value()),
                payload=message.value(),
                partition=message.partition(),
                offset=message.offset(),
                at=at,
            )
            for message in messages
        ]
        if events:
            with transaction.atomic():
                sink.handle(events, None)  # type: ignore[arg-type]
            client.commit(asynchronous=True)
            pace.add(len(events))
    rate = pace.rate
    client.close()
    return _checked(rate, count)


def relay(count: int) -> float:
    """Publish the outbox, in the order of each key, and note what the broker has."""
    OutboxEvent.objects.update(status=OutboxEvent.Status.PENDING, published_at=None)
    _tidy(OutboxEvent)
    worker = Relay(batch=BATCH)
    started = time.perf_counter()
    assert worker.drain().published == count
    rate = count / (time.perf_counter() - started)
    worker.close()
    return rate


def relay_bare() -> float:
    """Produce the rows of the outbox as they come."""
    _tidy(OutboxEvent)
    producer, last, sent = confluent_kafka.Producer(_PRODUCER), 0, 0
    started = time.perf_counter()
    while rows := list(OutboxEvent.objects.filter(pk__gt=last).order_by("pk").values_list(*_IDS)[:BATCH]):
        for _, key, payload, headers, event_id, at in rows:
            told = {**headers, "event-id": str(event_id), "event-time": at.isoformat()}
            producer.produce(_RELAYED, bytes(payload), key, headers=told)
        assert producer.flush(60) == 0
        sent, last = sent + len(rows), rows[-1][0]
    return sent / (time.perf_counter() - started)


def statements() -> dict[str, int]:
    """Return how many statements a batch takes of the relay, and of the consumer where all rows are there."""
    OutboxEvent.objects.update(status=OutboxEvent.Status.PENDING)
    worker = Relay(batch=BATCH)
    worker.run_once()
    with CaptureQueriesContext(connection) as relayed:
        worker.run_once()
    worker.close()
    sink, stop, counted = RunningTotals(), Flag(), list[int]()
    sink.group = f"consumer-{next(_rounds)}"

    def on_batch(counts: Any) -> None:
        counted.append(len(connection.queries_log))
        if len(counted) > 2:
            stop.set()

    with CaptureQueriesContext(connection):
        Consumption(sink, max_batch=BATCH).run(stop, on_batch=on_batch)
    return {"relay": len(relayed), "consumer": counted[-1] - counted[-2]}


def _clear() -> None:
    for model in (RunningTotal, ConsumedEvent):
        with connection.cursor() as cursor:
            cursor.execute(f'TRUNCATE "{model._meta.db_table}"')
        _tidy(model)


def _tidy(model: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
        cursor.execute(f'VACUUM ANALYZE "{model._meta.db_table}"')


def _checked(rate: float, count: int) -> float:
    totals = RunningTotal.objects.values_list("events", "disorders")
    assert sum(events for events, _ in totals) == count
    assert not any(disorders for _, disorders in totals)
    return rate

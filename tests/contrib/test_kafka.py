"""The Kafka adapter against a broker that speaks its protocol."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from django.db import transaction

from demo_project.servers import EmbeddedKafka, ServerUnavailable, embedded_kafka
from django_idempotency.contrib.kafka import KafkaBroker, messages
from django_idempotency.streams import BrokerUnavailable, UnknownTopic, consumption, publish, publish_many, relay
from django_idempotency.streams.brokers import Message
from django_idempotency.streams.consumption import Consumption
from django_idempotency.streams.errors import PositionLost
from django_idempotency.streams.models import ConsumerOffset, OutboxEvent, ParkedEvent
from django_idempotency.streams.relay import Relay
from tests.campaigns.harness import eventually
from tests.streams import brokers
from tests.streams.brokers import message
from tests.streams.models import Handled
from tests.streams.sinks import handler
from tests.streams.subjects import consume
from tests.streams.threads import running

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker() -> Iterator[KafkaBroker]:
    with brokers.kafka(brokers.servers()) as found:
        yield found


@pytest.fixture
def topic() -> str:
    return brokers.topic()


@pytest.fixture
def own() -> Iterator[EmbeddedKafka]:
    """A broker to be stopped and started."""
    try:
        kafka = embedded_kafka()
    except ServerUnavailable as error:
        pytest.skip(str(error))
    yield kafka
    kafka.stop()


def send(broker: KafkaBroker, *messages: Message) -> list[Any]:
    producer = broker.producer()
    try:
        return producer.send(messages)
    finally:
        producer.close()


def test_records_come_back_as_they_were_sent(broker: KafkaBroker, topic: str) -> None:
    sent = [
        Message(topic=topic, key=b"a", value=b"1", headers=(("h", b"\xff"), ("h", b""))),
        Message(topic=topic, key=b"a", value=None),
        Message(topic=topic, key="ü".encode(), value=b""),
    ]
    assert [report.error for report in send(broker, *sent)] == ["", "", ""]
    found = list(broker.read(topic, {}))
    assert sorted((record.key, record.value or b"", record.headers) for record in found) == sorted(
        (each.key, each.value or b"", each.headers) for each in sent
    )
    tombstone = next(record for record in found if record.key == b"a" and record.offset == 1)
    assert tombstone.value is None
    assert tombstone.at is not None
    ends = {partition: end for partition, (_, end) in broker.bounds(topic).items()}
    assert sum(ends.values()) == 3
    assert list(broker.read(topic, ends)) == []
    assert len(list(broker.read(topic, {tombstone.partition: 1}))) < 3
    assert broker.incarnation(topic)
    broker.partitions(f"{topic}-2")
    assert broker.incarnation(topic) != broker.incarnation(f"{topic}-2")
    assert broker.offsets_at(topic, tombstone.at - timedelta(hours=1)) == dict.fromkeys(range(4), 0)


def test_keys_go_where_the_clients_of_java_send_them(broker: KafkaBroker, topic: str) -> None:
    # Utils.toPositive(Utils.murmur2(key)) % 4, as org.apache.kafka.common.utils.UtilsTest has the hashes.
    known = {b"21": -973932308, b"foobar": -790332482, b"abc": 479470107}
    send(broker, *(Message(topic=topic, key=key, value=b"") for key in known))
    found = {record.key: record.partition for record in broker.read(topic, {})}
    assert found == {key: (value & 0x7FFFFFFF) % 4 for key, value in known.items()}


def test_ten_megabytes_are_refused_with_the_reason_and_the_rest_flows(broker: KafkaBroker, topic: str) -> None:
    with transaction.atomic():
        publish(topic, "a", b"before")
        OutboxEvent.objects.create(
            event_id=brokers.new_id(), topic=topic, business_key="a", payload=b"x" * 10**7, lane=0
        )
        publish(topic, "a", b"after")
    found = Relay()
    found.drain()
    found.close()
    parked = OutboxEvent.objects.parked().get()
    assert parked.error.startswith("MSG_SIZE_TOO_LARGE")
    assert [record.value for record in broker.read(topic, {})] == [b"before", b"after"]


def test_a_large_record_is_handled_or_parked_like_any_other(topic: str) -> None:
    with brokers.kafka(brokers.servers(), producer={"message.max.bytes": 20_000_000}) as broker:
        large = b'{"number": 1, "more": "' + b"x" * 10**7 + b'"}'
        broken = b"[" * 10**7
        reports = send(broker, message(topic, "a", large), message(topic, "a", broken), message(topic, "a", 2))
        assert [report.error for report in reports] == ["", "", ""]
        assert consume(handler(topic)) == {"executed": 2, "rejected": 1}
    assert len(ParkedEvent.objects.get().payload or b"") == 10**7


def test_an_unknown_topic_is_told_at_once(broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    # The embedded broker makes every topic that is asked for.
    unknown = SimpleNamespace(error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), partitions={})
    known = broker.admin.list_topics

    def list_topics(topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: unknown}) if topic == "nowhere" else known(topic, timeout=timeout)

    monkeypatch.setattr(broker, "admin", SimpleNamespace(list_topics=list_topics))
    lost, kept = send(broker, Message(topic="nowhere", key=b"", value=b""), Message(topic="orders", key=b"", value=b""))
    assert (lost.is_poison, bool(lost.error), kept.error) == (True, True, "")
    with pytest.raises(UnknownTopic):
        broker.bounds("nowhere")


def test_a_broker_that_is_not_there_is_unavailable() -> None:
    lost = KafkaBroker(bootstrap_servers="127.0.0.1:1", timeout=0.2)
    for question in (lost.bounds, lost.incarnation):
        with pytest.raises(BrokerUnavailable):
            question("orders")


def test_retention_is_what_the_topic_says(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = KafkaBroker(bootstrap_servers="127.0.0.1:1")

    def answer(**config: str) -> timedelta | None:
        entries = {name.replace("_", "."): SimpleNamespace(value=value) for name, value in config.items()}
        future = SimpleNamespace(result=lambda: entries)
        admin = SimpleNamespace(describe_configs=lambda asked, request_timeout: {asked[0]: future})
        monkeypatch.setattr(broker, "admin", admin, raising=False)
        return broker.retention("orders")

    assert answer(retention_ms="60000", cleanup_policy="delete") == timedelta(minutes=1)
    assert answer(retention_ms="-1") == timedelta.max
    assert answer(retention_ms="60000", cleanup_policy="compact") == timedelta.max
    assert answer() is None


def test_committed_events_arrive_once_and_the_broker_is_told_for_its_lag(broker: KafkaBroker, topic: str) -> None:
    with transaction.atomic():
        publish_many(topic, [(f"o-{number % 10}", {"number": number}) for number in range(300)])
    found = Relay()
    found.drain()
    found.close()
    assert consume(handler(topic)) == {"executed": 300}
    assert consume(handler(topic)) == {}
    assert sorted(Handled.objects.values_list("number", flat=True)) == list(range(300))
    client = Consumer({"bootstrap.servers": brokers.servers(), "group.id": "billing"})
    places = [TopicPartition(topic, partition) for partition in range(4)]
    committed = {place.partition: place.offset for place in client.committed(places, timeout=10)}
    client.close()
    assert sum(offset for offset in committed.values() if offset > 0) == 300
    rows = ConsumerOffset.objects.values_list("next_offset", "end_offset")
    assert all(next_offset == end for next_offset, end in rows)


def test_while_the_broker_is_down_events_wait_and_afterwards_they_arrive(
    own: EmbeddedKafka, topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also: it comes back with nothing in it, which is noticed, and nothing is handled twice or lost."""
    monkeypatch.setattr(consumption, "_VERIFIED_EVERY", 0.3)
    for module in (consumption, relay):
        monkeypatch.setattr(module, "_SHORTEST_PAUSE", 0.05)
        monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.2)
    stop = threading.Event()
    with brokers.kafka(own.bootstrap_servers, patience=1.0, timeout=2.0, config={"reconnect.backoff.max.ms": 100}):
        enter(topic, 0, 50)
        with running(lambda: Relay(poll=0.02).run(stop), lambda: Consumption(handler(topic), poll=0.05).run(stop)):
            try:
                eventually(lambda: Handled.objects.count() == 50, "the first events")
                own.stop()
                enter(topic, 50, 80)
                eventually(lambda: "The relay waits" in caplog.text, "the relay tells of it")
                eventually(lambda: f"{topic}/billing" in caplog.text, "the consumer tells of it")
                assert OutboxEvent.objects.pending().count() == 30
                own.start()
                eventually(lambda: Handled.objects.count() >= 80, "what waited")
                enter(topic, 80, 90)
                eventually(lambda: Handled.objects.count() >= 90, "what came later")
            finally:
                stop.set()
    assert sorted(Handled.objects.values_list("number", flat=True)) == list(range(90))
    assert set(ConsumerOffset.objects.values_list("epoch", flat=True)) & {1, 2}


def test_a_broker_that_does_not_answer_is_given_up_in_time_and_its_batch_sent_again(
    own: EmbeddedKafka, topic: str
) -> None:
    with brokers.kafka(own.bootstrap_servers, timeout=5.0) as broker:
        enter(topic, 0, 10)
        found = Relay()
        found.drain()
        found._producer._patience = 0.3  # type: ignore[union-attr]
        enter(topic, 10, 20)
        own.pause()
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            found.run_once()
        assert time.monotonic() - started < 5
        assert list(OutboxEvent.objects.pending().values_list("attempts", flat=True)) == [1] * 10
        own.go_on()
        found._producer._patience = 10  # type: ignore[union-attr]
        eventually(lambda: _drained(found), "the rest is published")
        found.close()
        values = [record.value for record in broker.read(topic, {}) if record.key == b"o-1"]
    assert {*values} == {b'{"number":1}', b'{"number":6}', b'{"number":11}', b'{"number":16}'}
    firsts = sorted({*values}, key=values.index)
    assert firsts == [b'{"number":1}', b'{"number":6}', b'{"number":11}', b'{"number":16}']


def enter(topic: str, start: int, end: int) -> None:
    with transaction.atomic():
        publish_many(topic, [(f"o-{number % 5}", {"number": number}) for number in range(start, end)])


def _drained(found: Relay) -> bool:
    try:
        found.drain()
    except BrokerUnavailable:
        return False
    return True


def test_partitions_are_divided_anew_when_a_member_comes_and_goes(topic: str) -> None:
    first_stop, second_stop = threading.Event(), threading.Event()
    with brokers.kafka(brokers.servers(), joins_groups=True) as broker:
        enter(topic, 0, 100)
        found = Relay()
        found.drain()
        first, second = (Consumption(handler(topic), poll=0.05) for _ in range(2))
        with running(lambda: first.run(first_stop)):
            eventually(lambda: Handled.objects.count() == 100, "the first member has everything")
            with running(lambda: second.run(second_stop)):
                eventually(lambda: len(second._next) in (1, 2, 3), "the second member has its share")
                enter(topic, 100, 200)
                found.drain()
                eventually(lambda: Handled.objects.count() == 200, "both handle what comes")
                first_stop.set()
                enter(topic, 200, 300)
                found.drain()
                eventually(lambda: Handled.objects.count() == 300, "the second member has everything")
                second_stop.set()
        found.close()
        assert sum(end for _, end in broker.bounds(topic).values()) == 300
    assert sorted(Handled.objects.values_list("number", flat=True)) == list(range(300))
    assert first.total["executed"] + second.total["executed"] == 300
    assert first.total["replayed"] == second.total["replayed"] == 0


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        (KafkaError.OFFSET_OUT_OF_RANGE, PositionLost),
        (KafkaError._UNKNOWN_TOPIC, UnknownTopic),
        (KafkaError._TRANSPORT, BrokerUnavailable),
    ],
)
def test_errors_are_said_in_the_words_of_the_room(code: int, meant: type[Exception]) -> None:
    assert isinstance(messages.said(KafkaError(code)), meant)
    assert isinstance(KafkaException(KafkaError(code)).args[0], KafkaError)

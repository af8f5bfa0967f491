"""Redis Streams are a broker like any other: what the room asks of one holds on a real server."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.cache import caches
from django.db import transaction
from django.test import override_settings

from django_idempotency.contrib.redis_entries import id_of, offset_of
from django_idempotency.contrib.redis_streams import RedisStreamsBroker
from django_idempotency.models import ConsumedEvent, ConsumerOffset, OutboxEvent
from django_idempotency.streams import Context, Event, consumer, publish_many
from django_idempotency.streams.brokers import Message, Record, Subscription
from django_idempotency.streams.consumption import Consumption
from django_idempotency.streams.errors import BrokerUnavailable, PositionLost
from django_idempotency.streams.offsets import Rewind
from django_idempotency.streams.relay import Relay
from django_idempotency.streams.sinks import registry
from tests.campaigns.redis_faults import RedisServer
from tests.models import Payment
from tests.redis_servers import cache, started_url
from tests.streams.threads import running

KEYS = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]


def patient_cache() -> dict[str, Any]:
    """Return a cache that a busy machine does not make time out; pools of django-redis go by URL."""
    url = urlsplit(started_url())._replace(path="/3").geturl()
    return cache(url, SOCKET_TIMEOUT=10, SOCKET_CONNECT_TIMEOUT=10)


@pytest.fixture
def topic() -> str:
    """A topic that no other test has."""
    return f"orders-{secrets.token_hex(4)}"


@pytest.fixture
def broker() -> Iterator[RedisStreamsBroker]:
    with override_settings(CACHES={"default": patient_cache()}):
        yield RedisStreamsBroker()


def message(topic: str, number: int, **values: Any) -> Message:
    facts = {"key": KEYS[number % len(KEYS)], "value": str(number).encode(), "headers": (("event-id", b"%d" % number),)}
    return Message(topic=topic, **{**facts, **values})


def send(broker: RedisStreamsBroker, topic: str, *numbers: int) -> None:
    reports = broker.producer().send([message(topic, number) for number in numbers])
    assert [report.error for report in reports] == [""] * len(numbers)


def subscribe(broker: RedisStreamsBroker, topic: str, *, at: int = 0, group: str = "billing") -> Subscription:
    def starts(partitions: Collection[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, at)

    return broker.subscribe(topic, group, starts=starts)


def numbers(records: list[Record]) -> list[int]:
    return sorted(int(record.value or b"") for record in records)


def test_an_offset_is_an_id_and_keeps_its_order() -> None:
    ids = [b"0-1", b"1700000000000-0", b"1700000000000-1", b"1700000000001-0", b"1893456000000-1048575"]
    offsets = [offset_of(each) for each in ids]
    assert offsets == sorted(offsets)
    assert offsets[-1] < 2**63
    assert [id_of(offset).encode() for offset in offsets] == ids


def test_what_is_sent_comes_back_as_it_was(broker: RedisStreamsBroker, topic: str) -> None:
    sent = [
        message(topic, 1, value=b"\x00\xff", headers=(("event-id", b"7"), ("traceparent", "ü".encode()))),
        message(topic, 1, value=None, headers=()),
    ]
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert [report.error for report in broker.producer().send(sent)] == ["", ""]
    found = subscribe(broker, topic).poll(100, 5)
    assert [(record.key, record.value, record.headers) for record in found] == [
        (each.key, each.value, each.headers) for each in sent
    ]
    assert all(record.at and before < record.at < datetime.now(UTC) + timedelta(seconds=1) for record in found)


def test_a_key_stays_in_one_partition_in_its_order(broker: RedisStreamsBroker, topic: str) -> None:
    send(broker, topic, *range(200))
    records = list(broker.read(topic, {}))
    assert numbers(records) == list(range(200))
    assert len({record.partition for record in records}) > 1
    for key in KEYS:
        of_key = [record for record in records if record.key == key]
        assert len({record.partition for record in of_key}) == 1
        assert [int(record.value or b"") for record in of_key] == numbers(of_key)


def test_polls_go_on_where_they_were_and_back_where_they_are_told(broker: RedisStreamsBroker, topic: str) -> None:
    send(broker, topic, *range(100))
    subscription, found = subscribe(broker, topic), list[Record]()
    while records := subscription.poll(7, 0.05):
        assert len(records) <= 7
        found += records
    assert numbers(found) == list(range(100))
    ends = {partition: end for partition, (_, end) in broker.bounds(topic).items()}
    assert {each: subscription.position(each) for each in subscription.assigned() if ends[each]} == {
        each: end for each, end in ends.items() if end
    }
    one = found[10]
    subscription.seek(one.partition, one.offset)
    assert subscription.poll(1000, 1)[0] == one


def test_a_poll_waits_for_what_comes_and_no_longer_than_it_should(broker: RedisStreamsBroker, topic: str) -> None:
    subscription = subscribe(broker, topic)
    started = time.monotonic()
    assert subscription.poll(10, 0.3) == []
    assert 0.25 < time.monotonic() - started < 3
    send(broker, topic, 1)
    assert numbers(subscription.poll(10, 30)) == [1]


def test_bounds_and_times_are_told(broker: RedisStreamsBroker, topic: str) -> None:
    assert set(broker.bounds(topic).values()) == {(0, 0)}
    send(broker, topic, *range(8))
    half, _ = divmod(time.time_ns(), 1_000_000)
    while time.time_ns() // 1_000_000 <= half + 1:
        pass
    send(broker, topic, *range(8, 16))
    moment = datetime.fromtimestamp((half + 1) / 1000, UTC)
    assert numbers(list(broker.read(topic, broker.offsets_at(topic, moment)))) == list(range(8, 16))
    future = broker.offsets_at(topic, datetime.now(UTC) + timedelta(days=1))
    assert future == {partition: end for partition, (_, end) in broker.bounds(topic).items()}


def test_what_was_trimmed_before_it_was_read_is_told(topic: str) -> None:
    with override_settings(CACHES={"default": patient_cache()}):
        broker = RedisStreamsBroker(partitions=1, retention=timedelta(days=1))
        send(broker, topic, *range(8))
        first, *_ = broker.read(topic, {})
        client, stream = broker.client, broker.stream(topic, 0)
        client.xtrim(stream, maxlen=3, approximate=False)
        with pytest.raises(PositionLost):
            subscribe(broker, topic, at=first.offset + 1).poll(10, 0.1)
        assert numbers(subscribe(broker, topic, at=broker.bounds(topic)[0][0]).poll(10, 1)) == [5, 6, 7]
        assert broker.retention(topic) == timedelta(days=1)


def test_entries_past_the_retention_are_trimmed_when_others_come(topic: str) -> None:
    with override_settings(CACHES={"default": patient_cache()}):
        broker = RedisStreamsBroker(partitions=1, retention=timedelta(days=1))
        stream = broker.stream(topic, 0)
        for number in range(300):  # older ones go in whole nodes of a hundred
            broker.client.xadd(stream, {"key": "a", "value": "0"}, id=f"{1_700_000_000_000 + number}-0")
        send(broker, topic, 1)
        assert broker.client.xlen(stream) < 150


def test_redis_tells_how_far_a_group_is(broker: RedisStreamsBroker, topic: str) -> None:
    send(broker, topic, 0, 8, 16)
    subscription = subscribe(broker, topic, group="billing")
    records = subscription.poll(100, 5)
    subscription.commit({records[0].partition: records[1].offset})
    subscription.commit({records[0].partition: records[2].offset})
    stream = broker.stream(topic, records[0].partition)
    (group,) = broker.client.xinfo_groups(stream)
    assert group["name"] == b"billing"
    assert offset_of(group["last-delivered-id"]) == records[2].offset - 1


def test_a_server_that_is_gone_is_unavailable_and_one_that_comes_back_empty_is_read_on(topic: str) -> None:
    with RedisServer() as server, override_settings(CACHES={"default": cache(server.url, SOCKET_TIMEOUT=5)}):
        broker = RedisStreamsBroker()
        send(broker, topic, *range(8))
        subscription = subscribe(broker, topic)
        assert numbers(subscription.poll(100, 5)) == list(range(8))
        server.kill()
        for call in (
            lambda: broker.producer().send([message(topic, 1)]),
            lambda: subscription.poll(10, 0.1),
            lambda: broker.bounds(topic),
            lambda: list(broker.read(topic, {})),
        ):
            with pytest.raises(BrokerUnavailable):
                call()
        subscription.commit({0: 5})  # raises nothing
        server.start()
        send(broker, topic, *range(8, 16))
        assert numbers(subscription.poll(100, 5)) == list(range(8, 16))


def test_a_server_that_hangs_is_unavailable_within_its_time_out(topic: str) -> None:
    with RedisServer() as server, override_settings(CACHES={"default": cache(server.url, SOCKET_TIMEOUT=1)}):
        broker = RedisStreamsBroker()
        subscription = subscribe(broker, topic)
        assert subscription.poll(10, 0.05) == []
        with server.stopped():
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                subscription.poll(10, 60)
            assert time.monotonic() - started < 10
        send(broker, topic, 1)
        assert numbers(subscription.poll(10, 30)) == [1]


def test_what_a_full_server_refuses_leaves_nothing_behind(topic: str) -> None:
    full = RedisServer("--maxmemory", "2mb", "--maxmemory-policy", "noeviction")
    with full as server, override_settings(CACHES={"default": cache(server.url, SOCKET_TIMEOUT=5)}):
        broker = RedisStreamsBroker(partitions=1)
        sent = 0

        def fill() -> None:
            nonlocal sent
            for start in range(0, 60, 5):
                large = [message(topic, number, value=b"x" * 100_000) for number in range(start, start + 5)]
                broker.producer().send(large)
                sent += 5

        with pytest.raises(BrokerUnavailable, match="memory"):
            fill()
        assert 0 < sent < 60
        assert broker.client.xlen(broker.stream(topic, 0)) == sent


def test_a_cache_that_is_not_of_django_redis_is_a_check_error() -> None:
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": local}):
        (error,) = RedisStreamsBroker().check("default")
        assert error.id == "idempotency.E068"
        (error,) = RedisStreamsBroker(cache="elsewhere").check("default")
        assert "elsewhere" in error.msg
    with override_settings(CACHES={"default": patient_cache()}):
        assert RedisStreamsBroker().check("default") == []


def test_payloads_pass_by_the_serializer_of_the_cache(broker: RedisStreamsBroker, topic: str) -> None:
    send(broker, topic, 1)
    (record,) = broker.read(topic, {})
    stream = broker.stream(topic, record.partition)
    ((_, fields),) = caches["default"].client.get_client().xrange(stream)  # type: ignore[attr-defined]
    assert fields[b"value"] == b"1"
    assert json.loads(fields[b"h:event-id"]) == 1


@pytest.fixture
def _group(topic: str) -> Iterator[None]:
    """A consumer of the topic."""
    known = list(registry._sinks)

    @consumer(topic=topic, group="billing")
    def pay(event: Event, context: Context) -> None:
        Payment.objects.create(reference=event.business_key, amount=event.data["number"])

    yield
    registry._sinks = known


def consume(topic: str, **options: Any) -> dict[str, int]:
    sink = registry.find(topic, "billing")
    assert sink
    counts = Consumption(sink, until_caught_up=True, poll=0.05, **options).run(Flag())
    return {outcome: count for outcome, count in counts.items() if count}


def applied() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for reference, amount in Payment.objects.order_by("id").values_list("reference", "amount"):
        found.setdefault(reference, []).append(amount)
    return found


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_group")
def test_members_that_all_read_everything_handle_it_once(topic: str) -> None:
    streams = {"default": {"BACKEND": "django_idempotency.contrib.redis_streams.RedisStreamsBroker"}}
    with override_settings(CACHES={"default": patient_cache()}, IDEMPOTENCY_BROKERS=streams):
        with transaction.atomic():
            publish_many(topic, [(f"order-{number % 7}", {"number": number}) for number in range(300)])
        Relay().drain()
        with running(*[lambda: consume(topic, max_batch=20)] * 3) as counts:
            pass
        assert sum(each.get("executed", 0) for each in counts) == 300
        assert applied() == {f"order-{each}": list(range(each, 300, 7)) for each in range(7)}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_group")
def test_events_go_through_it_once_and_in_order_however_often_they_are_sent_and_read(topic: str) -> None:
    streams = {"default": {"BACKEND": "django_idempotency.contrib.redis_streams.RedisStreamsBroker"}}
    with override_settings(CACHES={"default": patient_cache()}, IDEMPOTENCY_BROKERS=streams):
        with transaction.atomic():
            publish_many(topic, [(f"order-{number % 7}", {"number": number}) for number in range(100)])
        expected = {f"order-{each}": list(range(each, 100, 7)) for each in range(7)}
        assert Relay().drain().published == 100
        OutboxEvent.objects.update(status="pending")  # as a relay leaves it that is killed before it commits
        assert Relay().drain().published == 100
        assert consume(topic, max_batch=30) == {"executed": 100, "replayed": 100}
        assert applied() == expected
        assert consume(topic, rewind=Rewind()) == {"replayed": 200}
        ConsumedEvent.objects.all().delete()
        assert consume(topic, rewind=Rewind()) == {"replayed": 200}
        assert applied() == expected
        assert [row.lag for row in ConsumerOffset.objects.filter(topic=topic)] == [0] * 4

"""What is older than what is remembered is refused, not handled as new."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

from django_idempotency import purging
from django_idempotency.audit.models import AuditEvent
from django_idempotency.retention import registered
from django_idempotency.streams import floors, publish_many
from django_idempotency.streams.batches import Applier, Batch
from django_idempotency.streams.models import ConsumedEvent, ConsumerOffset, OutboxEvent, ParkedEvent, RetentionFloor
from django_idempotency.streams.offsets import Offsets
from django_idempotency.streams.relay import Relay
from django_idempotency.testing.brokers import MemoryBroker
from tests.campaigns.harness import eventually
from tests.streams.brokers import message
from tests.streams.models import Handled, Sum
from tests.streams.sinks import handler, projection
from tests.streams.subjects import consume
from tests.streams.threads import running

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = datetime.now(UTC) - timedelta(days=20)


def id_at(at: datetime) -> uuid.UUID:
    return uuid.UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (2**62 - 1))


def purge(*names: str) -> dict[str, int]:
    done = purging.purge(only=names or ("inbox",), pause=0, batch_size=3)
    return {table: counts.deleted for table, counts in done.tables.items()}


def test_a_purge_raises_the_floor_and_what_was_forgotten_is_refused(
    memory: MemoryBroker, topic: str, told: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    old, new = id_at(LONG_AGO), id_at(datetime.now(UTC))
    sink = projection(topic)
    for event_id, number in ((old, 1), (new, 2)):
        memory.append(message(topic, "a", number, event_id=event_id))
    assert consume(sink) == {"executed": 2}
    assert purge() == {"inbox": 1}
    for event_id, number in ((old, 1), (new, 2)):
        memory.append(message(topic, "a", number, event_id=event_id))
    assert consume(sink) == {"expired": 1, "replayed": 1}
    assert Sum.objects.get().total == 3
    assert ConsumedEvent.objects.get(event_id=old).outcome == "expired"
    assert told[-1]["counts"] == {"expired": 1, "replayed": 1}
    assert AuditEvent.objects.filter(event="expired", layer="streams").count() == 1
    assert "older than what is remembered" in caplog.text


def test_as_long_as_nothing_was_forgotten_old_events_are_handled(memory: MemoryBroker, topic: str) -> None:
    memory.append(message(topic, "a", 1, event_id=id_at(LONG_AGO)))
    assert purge() == {"inbox": 0}
    assert consume(handler(topic)) == {"executed": 1}
    assert floors.read("default") is None


def test_a_purge_and_a_rewind_leave_the_view_as_it_was(memory: MemoryBroker, topic: str) -> None:
    sink = projection(topic)
    for number in range(10):
        memory.append(message(topic, f"k{number % 3}", number, event_id=id_at(LONG_AGO)))
    consume(sink)
    before = list(Sum.objects.order_by("key").values_list("key", "total"))
    assert purge() == {"inbox": 10}
    # The worst case: not even the offsets are known any more.
    ConsumerOffset.objects.all().delete()
    assert consume(sink) == {"expired": 10}
    assert list(Sum.objects.order_by("key").values_list("key", "total")) == before


def test_the_floor_never_goes_down(memory: MemoryBroker, topic: str) -> None:
    memory.append(message(topic, "a", 1, event_id=id_at(LONG_AGO)))
    consume(handler(topic))
    purge()
    floor = floors.read("default")
    assert floor
    assert floor > datetime.now(UTC) - timedelta(days=15)
    memory.append(message(topic, "a", 2, event_id=id_at(LONG_AGO)))
    with override_settings(IDEMPOTENCY_INBOX_TTL=timedelta(days=18)):
        consume(handler(topic))
        purge()
    assert floors.read("default") == floor


@pytest.mark.postgresql
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_who_enters_while_a_purge_forgets_sees_the_row_or_the_floor(
    memory: MemoryBroker, topic: str, isolation: str
) -> None:
    """A purge has deleted the row and moved the floor, but not committed, when a copy of the event is entered."""
    old = id_at(LONG_AGO)
    sink = handler(topic)
    memory.append(message(topic, "a", 1, event_id=old))
    consume(sink)
    copy = memory.append(message(topic, "a", 1, event_id=old))
    starts = Offsets(sink).starts([copy.partition])
    (retention,) = (found for found in registered() if found.name == "inbox")
    deleted, go_on = threading.Event(), threading.Event()

    def forget() -> None:
        with transaction.atomic():
            assert retention.expired("default").exists()
            retention._raise_floor("default")  # type: ignore[attr-defined]
            ConsumedEvent.objects.all().delete()
            deleted.set()
            assert go_on.wait(30)

    def copy_arrives() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {isolation}")
            cursor.execute("SET application_name = 'copy'")
        return Applier(sink).apply(Batch(records=[copy], starts=starts))

    with running(forget):
        assert deleted.wait(30)
        with running(copy_arrives) as results:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'copy' AND wait_event_type = 'Lock'"
            )
            with connection.cursor() as cursor:
                eventually(lambda: cursor.execute(waiting).fetchone()[0], "the copy waits for the purge")
            go_on.set()
    assert results[0]["expired"] == 1
    assert Handled.objects.count() == 1


def test_published_events_and_settled_ones_are_purged_pending_and_parked_ones_never(memory: MemoryBroker) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=30)
    with transaction.atomic():
        publish_many("orders", [("a", 1), ("b", 2)])
    Relay().drain()
    with transaction.atomic():
        publish_many("orders", [("a", 3)])
    OutboxEvent.objects.update(created_at=long_ago)
    OutboxEvent.objects.filter(business_key="a").published().update(published_at=long_ago)
    for offset, settled in enumerate((None, long_ago)):
        ParkedEvent.objects.create(
            group="g", topic="orders", partition=0, offset=offset, kind="failed", reason="", parked_at=long_ago,
            settled_at=settled,
        )  # fmt: skip
    assert purge("outbox", "parked_events") == {"outbox": 1, "parked_events": 1}
    assert sorted(OutboxEvent.objects.values_list("business_key", "status")) == [("a", "pending"), ("b", "published")]
    assert not RetentionFloor.objects.exists()

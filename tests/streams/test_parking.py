"""Parked events are retried or dropped by somebody, with a reason, and never handled twice."""

from __future__ import annotations

from typing import Any

import pytest

from django_idempotency.audit.models import AuditEvent
from django_idempotency.streams import parking
from django_idempotency.streams.brokers import Message
from django_idempotency.streams.ids import new_id
from django_idempotency.streams.models import ConsumedEvent, ParkedEvent
from django_idempotency.streams.sinks import Registry
from django_idempotency.testing.brokers import MemoryBroker
from tests.streams.brokers import message
from tests.streams.models import Handled
from tests.streams.sinks import Refused, handle, handler
from tests.streams.subjects import consume

WHO = {"actor": "user:ann", "reason": "the code is mended"}


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry()
    monkeypatch.setattr(parking, "registry", found)
    return found


def numbers() -> list[int]:
    return list(Handled.objects.order_by("id").values_list("number", flat=True))


def park(broker: MemoryBroker, topic: str, sinks: Registry, *sent: Message) -> ParkedEvent:
    """Have the last of these messages parked."""
    sink = handler(topic)
    sinks.add("billing", sink)
    for each in sent:
        broker.append(each)
    consume(sink)
    parked: ParkedEvent = ParkedEvent.objects.parked().get()
    return parked


def test_a_mended_handler_handles_it_once(
    memory: MemoryBroker, topic: str, sinks: Registry, told: list[dict[str, Any]]
) -> None:
    event_id = new_id()
    parked = park(memory, topic, sinks, message(topic, "a", -1, event_id=event_id))
    seen = []
    sinks.add("billing", handler(topic, function=lambda event, context: seen.append((event, context))))
    assert parking.retry(parked, **WHO)
    ((event, context),) = seen
    assert (event.event_id, event.data, event.offset, context.attempt) == (event_id, {"number": -1}, 0, 2)
    parked.refresh_from_db()
    assert (parked.status, parked.attempts, bool(parked.settled_at)) == ("retried", 2, True)
    assert ConsumedEvent.objects.get().outcome == "executed"
    with pytest.raises(ValueError, match="no longer parked, but retried"):
        parking.retry(parked, **WHO)
    assert [fact["action"] for fact in told if "action" in fact] == ["retried"]
    assert AuditEvent.objects.filter(event="retried", actor="user:ann", reason="the code is mended").count() == 1


def test_a_handler_that_still_fails_leaves_it_parked(memory: MemoryBroker, topic: str, sinks: Registry) -> None:
    parked = park(memory, topic, sinks, message(topic, "a", -1))

    def fail_late(event: Any, context: Any) -> None:
        Handled.objects.create(key="a", number=0)
        raise Refused("still")

    sinks.add("billing", handler(topic, function=fail_late))
    assert not parking.retry(parked, **WHO)
    parked.refresh_from_db()
    assert (parked.status, parked.attempts, parked.reason, numbers()) == ("parked", 2, "Refused: still", [])


def test_what_could_not_be_read_is_read_again(memory: MemoryBroker, topic: str, sinks: Registry) -> None:
    parked = park(memory, topic, sinks, message(topic, "a", 5, **{"event-id": ""}))
    assert (parked.event_id, parked.kind) == (None, "rejected")
    assert parking.retry(parked, **WHO)
    assert numbers() == [5]
    assert ConsumedEvent.objects.get().outcome == "executed"


def test_what_still_cannot_be_read_stays_parked_with_the_reason(
    memory: MemoryBroker, topic: str, sinks: Registry
) -> None:
    parked = park(memory, topic, sinks, message(topic, "a", b"{"))
    assert not parking.retry(parked, **WHO)
    parked.refresh_from_db()
    assert (parked.status, parked.attempts) == ("parked", 2)
    assert "no JSON" in parked.reason


def test_what_was_handled_as_another_copy_meanwhile_is_not_handled_again(
    memory: MemoryBroker, topic: str, sinks: Registry
) -> None:
    event_id = new_id()
    broken = message(topic, "a", b"{", event_id=event_id)
    parked = park(memory, topic, sinks, broken)
    memory.append(message(topic, "a", 1, event_id=event_id))
    consume(handler(topic))
    ParkedEvent.objects.update(payload=b'{"number": 1}')
    assert parking.retry(parked, **WHO)
    assert numbers() == [1]


def test_one_that_is_dropped_is_never_handled(memory: MemoryBroker, topic: str, sinks: Registry) -> None:
    parked = park(memory, topic, sinks, message(topic, "a", -1))
    parking.drop(parked, **WHO)
    parked.refresh_from_db()
    assert (parked.status, bool(parked.settled_at)) == ("dropped", True)
    with pytest.raises(ValueError, match="no longer parked"):
        parking.drop(parked, **WHO)
    assert AuditEvent.objects.filter(event="dropped").count() == 1


def test_a_decision_needs_somebody_a_reason_and_a_consumer(memory: MemoryBroker, topic: str, sinks: Registry) -> None:
    parked = park(memory, topic, sinks, message(topic, "a", -1))
    for verb in (parking.retry, parking.drop):
        with pytest.raises(ValueError, match="an actor and a reason"):
            verb(parked, actor="", reason="why")
    sinks._sinks.clear()
    with pytest.raises(LookupError, match=f"no consumer of {topic} with the group billing"):
        parking.retry(parked, **WHO)


def test_whatever_is_in_a_record_can_be_parked(memory: MemoryBroker, topic: str, sinks: Registry) -> None:
    def refuse(event: Any, context: Any) -> None:
        raise Refused("a\0b \ud800")

    hostile = (("event-id", str(new_id()).encode()), ("h\0", b"\0\xff"), ("event-time", b"0001-01-01T00:00:00+14:00"))
    memory.append(Message(topic=topic, key=b"\0\xff", value=b"\0", headers=hostile))
    memory.append(Message(topic=topic, key=b"a", value=b"1", headers=hostile))
    assert consume(handler(topic, function=refuse)) == {"rejected": 1, "failed": 1}
    assert sorted(ParkedEvent.objects.values_list("reason", flat=True)) == [
        "Its key is no UTF-8.",
        "Refused: a\\0b \\ud800",
    ]


def test_bytes_and_tombstones_come_back_as_they_were(memory: MemoryBroker, topic: str, sinks: Registry) -> None:
    def refuse(event: Any, context: Any) -> None:
        raise Refused("not now")

    sink = handler(topic, function=refuse)
    for value in (b"\0\xff", None):
        memory.append(message(topic, "a", value, **{"content-type": "application/octet-stream", "tenant": "ü"}))
    consume(sink)
    seen = []
    sinks.add("billing", handler(topic, function=lambda event, context: seen.append(event)))
    for parked in ParkedEvent.objects.order_by("id"):
        assert parking.retry(parked, **WHO)
    assert [(event.payload, event.headers["tenant"]) for event in seen] == [(b"\0\xff", "ü"), (None, "ü")]
    assert handle is not refuse

"""The outbox: what a transaction has to tell is a row of its own, which commits with it or not at all."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections, models, router, transaction

from django_idempotency.conf import settings
from django_idempotency.core import notes
from django_idempotency.exceptions import FingerprintMismatch
from django_idempotency.signals import decision_made
from django_idempotency.streams.errors import EventTooLarge
from django_idempotency.streams.events import BYTES, ID, JSON, LONGEST_KEY, TIME, TRACE, TYPE
from django_idempotency.streams.ids import new_id
from django_idempotency.streams.models import OutboxEvent

#: Shares of the business keys; one relay at a time has one.
LANES = 64
_LONGEST_TOPIC = 249
_RESERVED = frozenset({ID, TIME})
_encode = DjangoJSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def publish(
    topic: str,
    business_key: str,
    payload: Any,
    *,
    headers: Mapping[str, str] | None = None,
    event_id: uuid.UUID | None = None,
    using: str | None = None,
) -> uuid.UUID:
    """Publish an event when the open transaction commits; return its id, by which consumers know it.

    ``payload``: what JSON can say, or bytes; None is a tombstone: the key is gone. The same ``event_id`` again changes
    nothing if all else is the same. Raises TransactionManagementError outside of ``transaction.atomic()``,
    EventTooLarge, FingerprintMismatch for an event id that another event has, ValueError, TypeError.
    """
    event = _event(topic, business_key, payload, headers or {}, event_id)
    alias = _alias(using)
    if event_id is None:
        event.save(using=alias, force_insert=True)
    else:
        OutboxEvent.objects.using(alias).bulk_create([event], ignore_conflicts=True)
        _check_same(alias, event)
    return event.event_id


def publish_many(
    topic: str,
    events: Iterable[tuple[str, Any]],
    *,
    headers: Mapping[str, str] | None = None,
    using: str | None = None,
) -> list[uuid.UUID]:
    """Publish pairs of a business key and a payload with one INSERT, in their order; return the ids. As ``publish``."""
    rows = [_event(topic, key, payload, headers or {}, None) for key, payload in events]
    OutboxEvent.objects.using(_alias(using)).bulk_create(rows, batch_size=5000)
    return [row.event_id for row in rows]


def retry_parked(rows: models.QuerySet[OutboxEvent], *, actor: str, reason: str) -> int:
    """Have parked events tried again; return how many. Those of their key that came later may be published already."""
    return _decide(rows, "retried", actor=actor, reason=reason)


def drop_parked(rows: models.QuerySet[OutboxEvent], *, actor: str, reason: str) -> int:
    """Delete parked events, which then are never published; return how many."""
    return _decide(rows, "dropped", actor=actor, reason=reason)


def publish_again(rows: models.QuerySet[OutboxEvent], *, actor: str, reason: str) -> int:
    """Have events sent again that a broker has lost; return how many. Consumers know those that they have handled."""
    return _decide(rows, "published_again", actor=actor, reason=reason)


def lane_of(topic: str, business_key: str) -> int:
    """Return the share that a key is in; whatever runs must agree on it."""
    return zlib.crc32(f"{topic}\0{business_key}".encode()) % LANES


def _alias(using: str | None) -> str:
    alias = using or router.db_for_write(OutboxEvent)
    if connections[alias].get_autocommit():
        raise transaction.TransactionManagementError(
            f"An event must be published inside transaction.atomic(using={alias!r}), together with what it tells of."
        )
    return alias


def _event(
    topic: str, business_key: str, payload: Any, headers: Mapping[str, str], event_id: uuid.UUID | None
) -> OutboxEvent:
    if not topic or len(topic) > _LONGEST_TOPIC:
        raise ValueError(f"A topic has 1 to {_LONGEST_TOPIC} characters.")
    if not isinstance(business_key, str) or not business_key or len(business_key) > LONGEST_KEY:
        raise ValueError(f"A business key is a text of 1 to {LONGEST_KEY} characters.")
    content_type, encoded = _encoded(payload)
    if encoded is not None and len(encoded) > settings.MAX_EVENT:
        raise EventTooLarge(
            f"The payload for {topic} has {len(encoded)} bytes; IDEMPOTENCY_MAX_EVENT allows {settings.MAX_EVENT}. "
            "Store it, and publish where it is."
        )
    return OutboxEvent(
        event_id=event_id or new_id(),
        topic=topic,
        business_key=business_key,
        payload=encoded,
        headers=_headers(headers, content_type),
        lane=lane_of(topic, business_key),
    )


def _encoded(payload: Any) -> tuple[str, bytes | None]:
    if payload is None:
        return "", None
    if isinstance(payload, bytes | bytearray | memoryview):
        return BYTES, bytes(payload)
    return JSON, _encode(payload).encode()


def _headers(given: Mapping[str, str], content_type: str) -> dict[str, str]:
    headers = {name.lower(): value for name, value in given.items()}
    if wrong := [name for name, value in headers.items() if name in _RESERVED or not isinstance(value, str)]:
        raise ValueError(f"The header {wrong[0]} is no text, or a name that is kept for events themselves.")
    trace = notes.read(notes.take()).get(TRACE, "")
    return {**({TYPE: content_type} if content_type else {}), **({TRACE: trace} if trace else {}), **headers}


def _check_same(alias: str, event: OutboxEvent) -> None:
    kept = OutboxEvent.objects.using(alias).get(event_id=event.event_id)
    payload = None if kept.payload is None else bytes(kept.payload)
    if (kept.topic, kept.business_key, payload) != (event.topic, event.business_key, event.payload):
        raise FingerprintMismatch(f"The event id {event.event_id} was used before for another event.")


def _decide(rows: models.QuerySet[OutboxEvent], action: str, *, actor: str, reason: str) -> int:
    if not (actor and reason):
        raise ValueError("A decision needs an actor and a reason.")
    alias = rows.db if rows._db else router.db_for_write(OutboxEvent)  # type: ignore[attr-defined]
    with transaction.atomic(using=alias):
        chosen = OutboxEvent.objects.using(alias).filter(pk__in=rows.values("pk"))
        chosen = chosen.published() if action == "published_again" else chosen.parked()
        topics = sorted(set(chosen.values_list("topic", flat=True)))
        count = _act(chosen, action)
        for topic in topics:
            _tell(alias, topic, action, actor=actor, reason=reason)
    return count


def _act(chosen: models.QuerySet[OutboxEvent], action: str) -> int:
    if action == "dropped":
        return chosen.delete()[0]
    return chosen.update(status=OutboxEvent.Status.PENDING, attempts=0, error="", published_at=None)


def _tell(alias: str, topic: str, action: str, *, actor: str, reason: str) -> None:
    decision_made.send(
        sender=OutboxEvent,
        using=alias,
        layer="streams",
        operation=topic,
        scope="outbox",
        digest=b"",
        action=action,
        actor=actor,
        reason=reason,
    )

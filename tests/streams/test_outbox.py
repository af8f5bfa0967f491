"""What a transaction publishes is a row of its own."""

from __future__ import annotations

import uuid
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_idempotency.core import notes
from django_idempotency.exceptions import FingerprintMismatch
from django_idempotency.streams import EventTooLarge, publish, publish_many
from django_idempotency.streams.models import OutboxEvent


@pytest.mark.django_db(transaction=True)
def test_an_event_commits_with_its_transaction() -> None:
    with transaction.atomic():
        event_id = publish("orders", "o-1", {"number": 1}, headers={"Tenant": "acme"})
    row = OutboxEvent.objects.get()
    assert (row.event_id, row.topic, row.business_key, bytes(row.payload)) == (
        event_id,
        "orders",
        "o-1",
        b'{"number":1}',
    )
    assert row.headers == {"content-type": "application/json", "tenant": "acme"}
    assert (row.status, event_id.version) == ("pending", 7)


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_rolls_back_publishes_nothing() -> None:
    with transaction.atomic():
        publish("orders", "o-1", {"number": 1})
        transaction.set_rollback(True)
    assert not OutboxEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_outside_of_a_transaction_there_is_nothing_to_publish_with() -> None:
    with pytest.raises(transaction.TransactionManagementError, match="inside transaction"):
        publish("orders", "o-1", {})


@pytest.mark.parametrize(
    ("payload", "kept", "content_type"),
    [
        ({"at": date(2026, 1, 2), "sum": Decimal("1.10")}, b'{"at":"2026-01-02","sum":"1.10"}', "application/json"),
        ("ü", '"ü"'.encode(), "application/json"),
        (b"\0\xff", b"\0\xff", "application/octet-stream"),
        (memoryview(b"ab"), b"ab", "application/octet-stream"),
    ],
)
def test_payloads_are_what_json_says_or_bytes(payload: Any, kept: bytes, content_type: str) -> None:
    with transaction.atomic():
        publish("orders", "o-1", payload)
    row = OutboxEvent.objects.get()
    assert (bytes(row.payload), row.headers) == (kept, {"content-type": content_type})


def test_a_tombstone_has_no_payload() -> None:
    with transaction.atomic():
        publish("orders", "o-1", None)
    row = OutboxEvent.objects.get()
    assert (row.payload, row.headers) == (None, {})


def test_a_payload_that_brokers_would_refuse_is_refused_at_once() -> None:
    with transaction.atomic():
        publish("orders", "o-1", b"x" * 1_000_000)
        with pytest.raises(EventTooLarge, match=r"has 1000001 bytes; IDEMPOTENCY_MAX_EVENT allows 1000000"):
            publish("orders", "o-1", b"x" * 1_000_001)
        with override_settings(IDEMPOTENCY_MAX_EVENT=10), pytest.raises(EventTooLarge):
            publish_many("orders", [("o-1", b"x" * 11)])


@pytest.mark.parametrize(
    ("topic", "key", "payload", "headers", "error"),
    [
        ("", "o-1", {}, {}, ValueError),
        ("t" * 250, "o-1", {}, {}, ValueError),
        ("orders", "", {}, {}, ValueError),
        ("orders", "k" * 256, {}, {}, ValueError),
        ("orders", 1, {}, {}, ValueError),
        ("orders", "o-1", {}, {"Event-Id": "mine"}, ValueError),
        ("orders", "o-1", {}, {"n": 1}, ValueError),
        ("orders", "o-1", float("nan"), {}, ValueError),
        ("orders", "o-1", object(), {}, TypeError),
    ],
)
def test_what_makes_no_event_is_refused(topic: str, key: Any, payload: Any, headers: Any, error: type) -> None:
    with transaction.atomic(), pytest.raises(error):
        publish(topic, key, payload, headers=headers)
    assert not OutboxEvent.objects.exists()


def test_an_event_id_of_ones_own_is_published_once() -> None:
    event_id = uuid.uuid4()
    for _ in range(2):
        with transaction.atomic():
            assert publish("orders", "o-1", {"number": 1}, event_id=event_id) == event_id
    assert OutboxEvent.objects.count() == 1
    with transaction.atomic(), pytest.raises(FingerprintMismatch, match=str(event_id)):
        publish("orders", "o-1", {"number": 2}, event_id=event_id)


def test_many_events_are_one_insert_in_their_order() -> None:
    with (
        transaction.atomic(),
        CaptureQueriesContext(
            connection,
        ) as queries,
    ):
        ids = publish_many("orders", [(f"o-{number}", {"number": number}) for number in range(50)])
    inserts = [query for query in queries if query["sql"].startswith("INSERT")]
    assert len(inserts) == 1
    assert list(OutboxEvent.objects.order_by("id").values_list("event_id", flat=True)) == ids


def test_the_trace_of_the_request_goes_along() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    notes.register("traceparent", lambda: trace)
    try:
        with transaction.atomic():
            publish("orders", "o-1", {})
    finally:
        notes.unregister("traceparent")
    assert OutboxEvent.objects.get().headers["traceparent"] == trace

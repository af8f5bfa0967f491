"""Records in the admin can be read, and only read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from django_idempotency.core.leases import Lease
from django_idempotency.models import Record
from django_idempotency.stores import get_store
from django_idempotency.testing import make_operation
from tests.callers import Caller, new_key

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def desk(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def record(alice: Caller) -> Record:
    alice.post("/payments/", {"amount": 3, "reference": HOSTILE}, key=new_key())
    return Record.objects.get()


def test_the_list_shows_and_finds_records_by_key(desk: Client, record: Record) -> None:
    address = reverse("admin:idempotency_record_changelist")
    page = desk.get(address).content.decode()
    assert "POST payment-list" in page
    assert bytes(record.digest[:4]).hex() in page
    assert "POST payment-list" in desk.get(address, {"q": record.key}).content.decode()
    assert "POST payment-list</td>" not in desk.get(address, {"q": record.key[:-1]}).content.decode()


def test_the_page_of_a_record_shows_its_outcome_as_text(desk: Client, record: Record) -> None:
    page = desk.get(reverse("admin:idempotency_record_change", args=[record.pk])).content.decode()
    assert bytes(record.fingerprint).hex() in page
    assert "Content-Type: application/json" in page
    assert "&lt;script&gt;" in page
    assert HOSTILE not in page


def test_nobody_can_add_change_or_delete_records(desk: Client, record: Record) -> None:
    for name, arguments in (("add", []), ("delete", [record.pk])):
        assert desk.get(reverse(f"admin:idempotency_record_{name}", args=arguments)).status_code == 403
    change = reverse("admin:idempotency_record_change", args=[record.pk])
    assert desk.post(change, {"key": "another"}).status_code == 403
    data: dict[str, Any] = {"action": "delete_selected", "_selected_action": [record.pk]}
    desk.post(reverse("admin:idempotency_record_changelist"), data)
    assert Record.objects.filter(pk=record.pk, key=record.key).exists()


def test_the_list_leaves_bodies_in_the_database(
    desk: Client, record: Record, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(8) as queries:
        desk.get(reverse("admin:idempotency_record_changelist"))
    listing = [query["sql"] for query in queries if 'FROM "idempotency_record"' in query["sql"]]
    assert listing
    assert not any("response_body" in statement for statement in listing)


@pytest.fixture
def broken(transactional_db: None) -> Record:
    """A record of unknown outcome, after a step whose result is nobody's business."""
    store = get_store()
    lease = store.reserve(make_operation(), lease=timedelta(minutes=1), ttl=timedelta(days=1))
    assert isinstance(lease, Lease)
    lease.step("reserve", lambda: HOSTILE)
    with pytest.raises(OSError, match="broke off"):
        lease.step("<i>transfer</i>", break_off)
    store.release(lease, unknown=True)
    return Record.objects.get(status="unknown")


def break_off() -> None:
    raise OSError("broke off")


def test_the_page_of_a_record_shows_how_far_it_got(desk: Client, broken: Record) -> None:
    page = desk.get(reverse("admin:idempotency_record_change", args=[broken.pk])).content.decode()
    assert "unknown" in page
    assert "reserve: done" in page
    assert "&lt;i&gt;transfer&lt;/i&gt;: begun" in page
    assert "<i>transfer" not in page
    assert "alert(1)" not in page
    assert Record.objects.update(status="in_progress", lease_expires_at=datetime(2031, 5, 4, tzinfo=UTC)) == 1
    assert "2031" in desk.get(reverse("admin:idempotency_record_change", args=[broken.pk])).content.decode()


def test_the_list_is_narrowed_down_by_status_without_asking_the_table(
    desk: Client, record: Record, broken: Record, django_assert_max_num_queries: Any
) -> None:
    address = reverse("admin:idempotency_record_changelist")
    with django_assert_max_num_queries(8) as queries:
        page = desk.get(address, {"status__exact": "unknown"}).content.decode()
    assert not any("DISTINCT" in query["sql"] for query in queries)
    assert bytes(broken.digest[:4]).hex() in page
    assert bytes(record.digest[:4]).hex() not in page
    for status in Record.Status.values:
        assert f"status__exact={status}" in page

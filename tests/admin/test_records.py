"""Records in the admin can be read, and only read."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from django_idempotency.models import Record
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

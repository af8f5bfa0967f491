"""Audit events in the admin can be read and found, and only that."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from django_idempotency.models import AuditEvent
from tests.admin.desks import make_events, make_record
from tests.audit.test_models import FACTS

HOSTILE = "<script>alert(1)</script>"
LIST = "admin:idempotency_auditevent_changelist"


@pytest.fixture
def event(transactional_db: None) -> AuditEvent:
    AuditEvent.objects.append(**{**FACTS, "digest": bytes.fromhex("ab" * 32), "reason": HOSTILE, "actor": HOSTILE})
    return AuditEvent.objects.get()


def test_the_list_and_the_page_show_who_why_and_what_as_text(desk: Client, event: AuditEvent) -> None:
    for address in (reverse(LIST), reverse("admin:idempotency_auditevent_change", args=[event.pk])):
        page = desk.get(address).content.decode()
        assert "abababab" in page
        assert "POST payment-list" in page
        assert page.count("&lt;script&gt;alert(1)") >= 2
        assert HOSTILE not in page


@pytest.mark.parametrize(
    ("term", "is_found"),
    [("", True), ("abababab", True), (" ABABABABA ", True), ("ab" * 32, True), ("abababac", False), ("ab", False)],
)
def test_events_are_found_by_digest(desk: Client, event: AuditEvent, term: str, is_found: bool) -> None:
    page = desk.get(reverse(LIST), {"q": term}).content.decode()
    assert (f"/auditevent/{event.pk}/change/" in page) is is_found


def test_events_are_narrowed_down_by_what_happened(desk: Client, event: AuditEvent) -> None:
    for name in AuditEvent.Event.values:
        page = desk.get(reverse(LIST), {"event": name}).content.decode()
        assert (f"/auditevent/{event.pk}/change/" in page) is (name == "released")


def test_nobody_can_add_change_or_delete_events(desk: Client, event: AuditEvent) -> None:
    for name, arguments in (("add", []), ("delete", [event.pk])):
        assert desk.get(reverse(f"admin:idempotency_auditevent_{name}", args=arguments)).status_code == 403
    change = reverse("admin:idempotency_auditevent_change", args=[event.pk])
    assert desk.post(change, {"reason": "another"}).status_code == 403
    data: dict[str, Any] = {"action": "delete_selected", "_selected_action": [event.pk]}
    desk.post(reverse(LIST), data)
    assert AuditEvent.objects.get().reason == HOSTILE


def test_events_are_found_by_the_key_of_their_record(desk: Client) -> None:
    record = make_record()
    mine, other = (make_events("replayed", digest=digest) for digest in (record.digest, bytes(32)))
    page = desk.get(reverse(LIST), {"q": record.key}).content.decode()
    assert f"/auditevent/{mine.pk}/change/" in page
    assert f"/auditevent/{other.pk}/change/" not in page

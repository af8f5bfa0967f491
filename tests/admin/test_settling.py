"""What waits for a decision gets one: asked about, with a reason, by those who may, with a trace of each."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_idempotency.models import AuditEvent, ConsumedEvent, OutboxEvent, ParkedEvent
from django_idempotency.streams import consumer
from django_idempotency.streams.sinks import registry
from tests.admin.desks import seat, staff
from tests.admin.streaming import HOSTILE, make_outbox, make_parked
from tests.models import Payment

REASON = "the producer was repaired"
PAGES = {"outboxevent": make_outbox, "parkedevent": make_parked}


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A consumer of the events on the desk, which fails as long as there is something in this list."""
    failures: list[str] = []
    monkeypatch.setattr(registry, "_sinks", list(registry._sinks))

    @consumer(topic="orders", group="billing")
    def handle(event: Any, context: Any) -> None:
        Payment.objects.create(reference=event.business_key, amount=1)
        if failures:
            raise ValueError(failures[0])

    return failures


def listing(page: str) -> str:
    return reverse(f"admin:idempotency_{page}_changelist")


def address(page: str, verb: str, *rows: Any) -> str:
    query = "&".join(f"id={row.pk}" for row in rows)
    return reverse(f"admin:idempotency_{page}_{verb}") + (f"?{query}" if query else "")


def decide(client: Client, page: str, verb: str, *rows: Any, reason: str = REASON) -> str:
    response = client.post(address(page, verb, *rows), {"reason": reason}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def decisions() -> list[tuple[str, str, str]]:
    rows = AuditEvent.objects.filter(layer="streams").exclude(actor="").order_by("id")
    return list(rows.values_list("event", "actor", "reason"))


def test_what_the_broker_refused_is_sent_again(desk: Client) -> None:
    rows = [make_outbox("parked") for _ in range(2)]
    other = make_outbox("published")
    text = decide(desk, "outboxevent", "retry", *rows, other)
    assert "2 events are settled." in text
    assert set(OutboxEvent.objects.values_list("status", flat=True)) == {"pending", "published"}
    assert set(LogEntry.objects.values_list("object_id", "change_message")) == {
        (str(row.pk), f"retry: {REASON}") for row in rows
    }
    assert decisions() == [("retried", "user:admin", REASON)]


def test_all_that_the_broker_refused_is_dropped_at_once(desk: Client) -> None:
    for _ in range(3):
        make_outbox("parked")
    kept = make_outbox()
    shown = desk.get(listing("outboxevent")).content.decode()
    assert address("outboxevent", "drop") in shown
    assert "3 events are settled." in decide(desk, "outboxevent", "drop")
    assert list(OutboxEvent.objects.values_list("pk", flat=True)) == [kept.pk]
    assert LogEntry.objects.count() == 3
    assert address("outboxevent", "drop") not in desk.get(listing("outboxevent")).content.decode()


def test_a_parked_event_is_handled_in_a_transaction_with_its_traces(desk: Client, handler: list[str]) -> None:
    row = make_parked()
    assert "1 event is settled." in decide(desk, "parkedevent", "retry", row)
    row.refresh_from_db()
    assert (row.status, row.attempts) == ("retried", 2)
    assert Payment.objects.count() == ConsumedEvent.objects.filter(event_id=row.event_id).count() == 1
    assert "Nothing waits" in desk.get(address("parkedevent", "retry", row)).content.decode()
    decide(desk, "parkedevent", "retry", row)
    assert Payment.objects.count() == 1
    assert decisions() == [("retried", "user:admin", REASON)]
    assert LogEntry.objects.count() == 1


def test_one_that_fails_again_waits_on_and_holds_up_no_other(desk: Client, handler: list[str]) -> None:
    rows = [make_parked() for _ in range(2)]
    handler.append("still broken")
    text = decide(desk, "parkedevent", "retry", *rows)
    assert "2 events still wait." in text
    assert "settled." not in text
    assert set(ParkedEvent.objects.values_list("status", "attempts", "reason")) == {
        ("parked", 2, "ValueError: still broken")
    }
    assert not Payment.objects.exists()
    assert not LogEntry.objects.exists()


def test_one_whose_consumer_is_gone_waits_on_and_says_so(desk: Client, handler: list[str]) -> None:
    gone, there = make_parked(group="gone"), make_parked()
    text = decide(desk, "parkedevent", "retry", gone, there)
    assert "1 event is settled." in text
    assert "1 event still waits." in text
    assert "There is no consumer" in text
    assert decide(desk, "parkedevent", "drop", gone)
    assert set(ParkedEvent.objects.values_list("group", "status")) == {("gone", "dropped"), ("billing", "retried")}


def test_selected_rows_are_asked_about_first(desk: Client, handler: list[str]) -> None:
    row, other = make_parked(), make_parked()
    chosen = {"action": "drop_selected", "_selected_action": [row.pk]}
    asked = desk.post(listing("parkedevent"), chosen, follow=True)
    assert asked.redirect_chain == [(address("parkedevent", "drop", row), 302)]
    text = asked.content.decode()
    assert "never handled" in text
    assert HOSTILE not in text
    assert ParkedEvent.objects.parked().count() == 2
    decide(desk, "parkedevent", "drop", row)
    assert list(ParkedEvent.objects.parked()) == [other]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_a_decision_needs_a_reason_a_post_and_a_permission(desk: Client, page: str, verb: str) -> None:
    row = PAGES[page](status="parked")
    auditor = seat(staff(f"auditor-{page}", f"view_{page}"))
    may_not_look = seat(staff(f"blind-{page}", f"settle_{page}"))
    for client in (auditor, may_not_look):
        for ids in ([row], []):
            assert client.get(address(page, verb, *ids)).status_code == 403
            assert client.post(address(page, verb, *ids), {"reason": REASON}).status_code == 403
    assert verb not in auditor.get(listing(page)).content.decode().partition("changelist")[2].casefold()
    assert "settle/" not in auditor.get(reverse(f"admin:idempotency_{page}_change", args=[row.pk])).content.decode()
    assert "Nothing has been done" in desk.post(address(page, verb, row), {"reason": " "}).content.decode()
    assert desk.get(address(page, verb, row)).status_code == 200
    assert Client().get(address(page, verb, row)).status_code == 302
    row.refresh_from_db()
    assert row.status == "parked"
    operator = seat(staff(f"operator-{page}", f"view_{page}", f"settle_{page}"))
    assert "settle/" in operator.get(reverse(f"admin:idempotency_{page}_change", args=[row.pk])).content.decode()
    assert operator.get(address(page, verb, row)).status_code == 200


def test_an_action_posted_by_one_who_may_only_look_does_nothing(handler: list[str], transactional_db: None) -> None:
    row = make_parked()
    auditor = seat(staff("auditor", "view_parkedevent"))
    chosen: dict[str, Any] = {"action": "drop_selected", "_selected_action": [row.pk]}
    response = auditor.post(listing("parkedevent"), chosen)
    assert response.status_code != 302 or "settle" not in response.headers["Location"]

"""Keys that are masked, bodies and tokens are in no page, search, export or report of an error."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.urls import reverse
from django.views.debug import ExceptionReporter

from django_idempotency.admin.desk import masked
from django_idempotency.models import AuditEvent, Record
from django_idempotency.signals import decision_made, operation_resolved
from tests.admin.desks import (
    CANARY_BODY,
    CANARY_KEY,
    CANARY_TOKEN,
    EVENTS,
    LIST,
    make_events,
    make_record,
    make_waiting,
    page_of,
    seat,
    staff,
    verb_of,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def records() -> list[Record]:
    taken = [{"name": "transfer", "is_done": True, "result": {"token": CANARY_TOKEN}}]
    return [
        make_record(key=CANARY_KEY, response_body=f'{{"secret": "{CANARY_BODY}", "token": "{CANARY_TOKEN}"}}'.encode()),
        make_waiting("unknown", key=CANARY_KEY, steps=taken),
    ]


def leaks(text: str) -> list[str]:
    return [secret for secret in (CANARY_KEY, CANARY_BODY, CANARY_TOKEN) if secret in text]


def test_no_page_shows_them_to_who_may_not_see_them(records: list[Record]) -> None:
    client = seat(staff("ops", "view_record", "view_auditevent", "view_rollup", "release_record", "erase_record"))
    event = make_events("replayed", digest=bytes(records[0].digest))
    addresses = [
        reverse("admin:app_list", args=["idempotency"]),
        *(
            reverse(LIST, query=query)
            for query in ({}, {"window": "all"}, {"q": "auth.user:1"}, {"outcome": "unknown"})
        ),
        reverse(EVENTS),
        reverse("admin:idempotency_auditevent_change", args=[event.pk]),
        *(page_of(record) for record in records),
        *(reverse("admin:idempotency_record_history", args=[record.pk]) for record in records),
        verb_of(records[0], "erase"),
        verb_of(records[0], "expire"),
        verb_of(records[1], "release"),
    ]
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200
        assert leaks(response.content.decode()) == [], address
    assert CANARY_KEY[:4] + "…" in client.get(page_of(records[0])).content.decode()


def test_whole_keys_but_no_bodies_are_on_the_pages_of_who_may_see_them(records: list[Record]) -> None:
    client = seat(staff("trusted", "view_record", "reveal_body"))
    assert leaks(client.get(page_of(records[0])).content.decode()) == [CANARY_KEY]
    assert leaks(client.get(reverse(LIST)).content.decode()) == []
    assert leaks(client.get(verb_of(records[0], "reveal")).content.decode()) == []


@pytest.mark.parametrize(("key", "shown"), [("", ""), ("1234", "…"), ("x" * 15, "…"), ("abcdefghijklmnop", "abcd…")])
def test_a_short_key_is_masked_whole(key: str, shown: str) -> None:
    assert masked(key) == shown


@pytest.mark.parametrize("verb", ["reveal", "resolve-done"])
def test_the_report_of_an_error_tells_nothing(records: list[Record], verb: str, settings: Any) -> None:
    reports: list[str] = []

    def report(sender: object, request: HttpRequest, **facts: Any) -> None:
        reporter = ExceptionReporter(request, *sys.exc_info())
        reports.extend([reporter.get_traceback_text(), reporter.get_traceback_html()])

    def fail(**facts: Any) -> None:
        raise OSError("the listener broke")

    client = seat(User.objects.create_superuser("admin"))
    record = records[0] if verb == "reveal" else records[1]
    seen = client.get(verb_of(record, verb)).context["form"]["seen"].value()
    data = {"reason": "x", "seen": seen, "status": 200, "content_type": "text/plain", "ttl": 60, "body": CANARY_BODY}
    got_request_exception.connect(report)
    for signal in (decision_made, operation_resolved):
        signal.connect(fail)
    try:
        answer = client.post(verb_of(record, verb), data)
    finally:
        got_request_exception.disconnect(report)
        for signal in (decision_made, operation_resolved):
            signal.disconnect(fail)
    assert answer.status_code == 500
    assert len(reports) == 2
    assert all("the listener broke" in text and "_carry_out" in text for text in reports)
    assert [leaks(text) for text in [*reports, answer.content.decode()]] == [[], [], []]
    assert not AuditEvent.objects.exists()

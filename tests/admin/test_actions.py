"""Decisions at the desk: asked about first, permitted one by one, logged, audited, carried out as they were seen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from django_idempotency.admin import RecordAdmin
from django_idempotency.admin.verbs import VERBS, Verb
from django_idempotency.core.leases import Lease
from django_idempotency.exceptions import LeaseLost
from django_idempotency.models import AuditEvent, Record
from django_idempotency.signals import decision_made
from django_idempotency.stores import get_store
from django_idempotency.testing import CREATED, make_operation
from tests.admin.desks import (
    CANARY_BODY,
    CANARY_KEY,
    LIST,
    VIEWS,
    make_record,
    make_waiting,
    page_of,
    seat,
    staff,
    verb_of,
)
from tests.callers import Caller, new_key

pytestmark = pytest.mark.django_db(transaction=True)
BY_NAME = {verb.name: verb for verb in VERBS}
NEEDED: dict[str, dict[str, Any]] = {
    "resolve-done": {"status": 201, "content_type": "application/json", "body": '{"id": 7}', "ttl": 3600}
}
EVENTS = {
    "release": "released",
    "resolve-done": "resolved_done",
    "resolve-not-done": "resolved_not_done",
    "expire": "expired_now",
    "erase": "erased",
    "reveal": "body_revealed",
}
every_verb = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)


def make_suitable(verb: Verb, **values: Any) -> Record:
    completed = make_record(response_body=CANARY_BODY.encode(), **values)
    return completed if verb.applies(completed) else make_waiting("unknown", **values)


def seen_by(client: Client, record: Record, verb: str) -> str:
    response = client.get(verb_of(record, verb))
    assert response.status_code == 200
    return str(response.context["form"]["seen"].value())


def decide(client: Client, record: Record, verb: str, **values: Any) -> Any:
    needed = {"reason": "the bank says so", "seen": seen_by(client, record, verb), **NEEDED.get(verb, {})}
    return client.post(verb_of(record, verb), {**needed, **values})


def state() -> tuple[list[dict[str, Any]], int, int]:
    return list(Record.objects.order_by("pk").values()), AuditEvent.objects.count(), LogEntry.objects.count()


@every_verb
def test_a_decision_is_carried_out_logged_and_audited(operator: Client, verb: Verb) -> None:
    record = make_suitable(verb)
    response = decide(operator, record, verb.name)
    assert response.status_code == (200 if verb.name == "reveal" else 302)
    event = AuditEvent.objects.get()
    assert (event.event, event.actor, event.reason) == (EVENTS[verb.name], "user:operator", "the bank says so")
    assert bytes(event.digest) == bytes(record.digest)
    assert (event.operation, event.scope) == (record.operation, record.scope)
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "operator"
    assert entry.object_id == str(record.pk)
    assert "the bank says so" in entry.change_message
    assert CANARY_BODY not in entry.change_message + event.reason


def test_what_each_decision_changes(operator: Client) -> None:
    now = timezone.now()
    decide(operator, released := make_waiting("unknown"), "release")
    assert not Record.objects.filter(pk=released.pk).exists()
    decide(operator, done := make_waiting("unknown"), "resolve-done")
    done.refresh_from_db()
    assert (done.status, done.response_status, bytes(done.response_body or b"")) == ("completed", 201, b'{"id": 7}')
    assert timedelta(minutes=59) < done.expires_at - now < timedelta(minutes=61)
    decide(operator, not_done := make_waiting("in_progress", lapsed=True), "resolve-not-done")
    not_done.refresh_from_db()
    assert not_done.status == "released"
    decide(operator, expired := make_record(), "expire")
    expired.refresh_from_db()
    assert now - timedelta(seconds=5) <= expired.expires_at <= timezone.now() + timedelta(seconds=5)
    decide(operator, erased := make_record(), "erase")
    erased.refresh_from_db()
    assert (erased.status, erased.response_body, erased.response_headers) == ("completed", None, [])


def test_requests_meet_what_was_decided(operator: Client, alice: Caller) -> None:
    key = new_key()
    first = alice.post("/payments/", {"amount": 1}, key=key)
    decide(operator, Record.objects.get(), "erase")
    erased = alice.post("/payments/", {"amount": 1}, key=key)
    assert (first.status_code, erased.status_code) == (201, 409)
    assert first.content not in erased.content
    decide(operator, Record.objects.get(), "expire")
    anew = alice.post("/payments/", {"amount": 1}, key=key)
    assert anew.status_code == 201
    assert anew.json()["id"] != first.json()["id"]


@every_verb
@pytest.mark.parametrize("method", ["get", "post"])
def test_who_may_only_view_is_refused_at_every_address(auditor: Client, verb: Verb, method: str) -> None:
    record = make_suitable(verb)
    before = state()
    data = {"reason": "because", "seen": "", **NEEDED.get(verb.name, {})} if method == "post" else {}
    assert getattr(auditor, method)(verb_of(record, verb.name), data).status_code == 403
    assert state() == before
    assert f"idempotency-verb-{verb.name}" not in auditor.get(page_of(record)).content.decode()


@every_verb
def test_each_verb_needs_its_own_permission_and_that_to_view(transactional_db: None, verb: Verb) -> None:
    record = make_suitable(verb)
    others = sorted({one.permission for one in VERBS} - {verb.permission})
    for name, permissions, status in (
        ("only_other_verbs", [*VIEWS, *others], 403),
        ("no_view", [verb.permission], 403),
        ("both", ["view_record", verb.permission], 200),
    ):
        client = seat(staff(name, *permissions))
        assert client.get(verb_of(record, verb.name)).status_code == status, name
    page = client.get(page_of(record)).content.decode()
    assert f"idempotency-verb-{verb.name}" in page


@every_verb
def test_strangers_are_led_to_the_login(transactional_db: None, verb: Verb) -> None:
    record = make_suitable(verb)
    response = Client().post(verb_of(record, verb.name), {"reason": "x"})
    assert response.status_code == 302
    assert "/login/" in response["Location"]


@every_verb
def test_looking_changes_nothing_and_a_form_of_another_site_is_refused(operator: Client, verb: Verb) -> None:
    record = make_suitable(verb)
    before = state()
    assert operator.get(verb_of(record, verb.name), {"reason": "x", "seen": "y"}).status_code == 200
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert strict.post(verb_of(record, verb.name), {"reason": "x"}).status_code == 403
    assert state() == before


@every_verb
@pytest.mark.parametrize("reason", ["", "   ", "x" * 1001])
def test_a_decision_needs_a_reason(operator: Client, verb: Verb, reason: str) -> None:
    record = make_suitable(verb)
    before = state()
    page = decide(operator, record, verb.name, reason=reason)
    assert page.status_code == 200
    assert "Nothing has been done." in page.content.decode()
    assert state() == before


@every_verb
def test_a_decision_about_another_state_is_refused(operator: Client, verb: Verb) -> None:
    record = make_suitable(verb)
    seen = seen_by(operator, record, verb.name)
    assert Record.objects.filter(pk=record.pk).update(attempt=7) == 1
    before = state()
    page = operator.post(verb_of(record, verb.name), {"reason": "x", "seen": seen, **NEEDED.get(verb.name, {})})
    assert "has changed since you looked at it" in page.content.decode()
    assert state() == before


@every_verb
def test_a_record_that_is_gone_is_not_found(operator: Client, verb: Verb) -> None:
    record = make_suitable(verb)
    address = verb_of(record, verb.name)
    Record.objects.all().delete()
    assert operator.post(address, {"reason": "x"}).status_code == 404


def test_what_makes_no_sense_is_not_offered_and_not_done(operator: Client) -> None:
    for record, offered in (
        (make_record(), {"expire", "erase", "reveal"}),
        (make_waiting("unknown"), {"release", "resolve-done", "resolve-not-done"}),
        (make_waiting("released"), {"release"}),
    ):
        page = operator.get(page_of(record)).content.decode()
        assert {name for name in BY_NAME if f'idempotency-verb-{name}"' in page} == offered
    completed = make_record()
    before = state()
    for name in ("release", "resolve-done", "resolve-not-done"):
        assert "nothing to decide" in decide(operator, completed, name).content.decode()
    waiting = make_waiting("unknown")
    before = state()
    for name in ("expire", "erase", "reveal"):
        assert "has changed since" in decide(operator, waiting, name).content.decode()
    assert state() == before


def test_a_lease_that_is_held_is_overruled_only_where_that_is_asked_for(operator: Client) -> None:
    store = get_store()
    lease = store.reserve(make_operation(), lease=timedelta(minutes=5), ttl=timedelta(days=1))
    assert isinstance(lease, Lease)
    record = Record.objects.get()
    page = decide(operator, record, "release").content.decode()
    assert "lease is still held" in page
    assert Record.objects.exists()
    assert decide(operator, record, "release", force="on").status_code == 302
    with pytest.raises(LeaseLost), store.transaction():
        store.complete(lease, CREATED, ttl=timedelta(days=1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "500"),
        ("status", "429"),
        ("status", "100"),
        ("content_type", "text/plain\r\nX-Evil: 1"),
        ("ttl", "0"),
        ("body", "x" * 11),
    ],
)
def test_an_outcome_that_no_retry_could_get_is_refused(operator: Client, field: str, value: str) -> None:
    record = make_waiting("unknown")
    before = state()
    with override_settings(IDEMPOTENCY_MAX_BODY=10):
        page = decide(operator, record, "resolve-done", **{field: value})
    assert page.status_code == 200
    assert page.context["form"].errors.keys() == {field}
    assert state() == before


def test_a_body_is_revealed_once_as_text_to_those_who_may(operator: Client) -> None:
    record = make_record(response_body=b'{"a":"<script>alert(1)</script>"}', key=CANARY_KEY)
    response = decide(operator, record, "reveal")
    page = response.content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "no-store" in response["Cache-Control"]
    assert "alert(1)" not in operator.get(verb_of(record, "reveal")).content.decode()
    assert "was erased" in decide(operator, make_record(response_body=None), "reveal").content.decode()
    assert "\\xff" in decide(operator, make_record(response_body=b"\xff"), "reveal").content.decode()


@every_verb
def test_a_listener_that_fails_undoes_the_decision_and_its_log(operator: Client, verb: Verb) -> None:
    record = make_suitable(verb)
    before = state()

    def fail(**facts: Any) -> None:
        raise OSError("the listener broke")

    from django_idempotency import signals

    every = (decision_made, signals.operation_released, signals.operation_resolved)
    for signal in every:
        signal.connect(fail)
    try:
        assert decide(operator, record, verb.name).status_code == 500
    finally:
        for signal in every:
            signal.disconnect(fail)
    assert state() == before


@every_verb
def test_a_decision_that_cannot_be_logged_is_not_carried_out(
    operator: Client, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError("the log is full")

    record = make_suitable(verb)
    before = state()
    monkeypatch.setattr(RecordAdmin, "log_change", fail)
    assert decide(operator, record, verb.name).status_code == 500
    assert state() == before


def test_no_verb_can_be_used_on_many_at_once(operator: Client) -> None:
    record = make_record()
    data = {"action": "delete_selected", "_selected_action": [record.pk], "index": 0}
    operator.post(reverse(LIST), data)
    assert Record.objects.filter(pk=record.pk).exists()
    assert 'name="action"' not in operator.get(reverse(LIST)).content.decode()

"""A11: security and privacy."""

from __future__ import annotations

import ast
import json
import logging
import pickle
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.core.signals import got_request_exception
from django.db import connection
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.views.debug import ExceptionReporter
from rest_framework.request import Request
from rest_framework.response import Response

import django_idempotency
from django_idempotency.core.outcomes import Outcome
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.conformance.views_responses import created, in_flight, scripted
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_responses")

SENT, ANSWERED = "marker-of-the-request-body", "marker-of-the-response-body"


@pytest.fixture
def queries() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connection) as captured:
        yield captured


def look_ups(queries: CaptureQueriesContext) -> int:
    return sum(Record._meta.db_table in query["sql"] for query in queries.captured_queries)


def ban(caller: Caller) -> None:
    caller.user.groups.add(Group.objects.get_or_create(name="banned")[0])


def stored() -> str:
    """Return all that the only record holds, as text."""
    values = Record.objects.values().get()
    return repr(
        {name: bytes(value) if isinstance(value, bytes | memoryview) else value for name, value in values.items()}
    )


def test_a11_123_who_has_lost_a_permission_gets_403_and_not_the_stored_response(
    alice: Caller, queries: CaptureQueriesContext
) -> None:
    key = new_key()
    with scripted() as script:
        first = alice.post("/required/", key=key)
        ban(alice)
        before = look_ups(queries)
        refused = alice.post("/required/", key=key)
        assert look_ups(queries) == before > 0
        alice.user.groups.clear()
        assert alice.post("/required/", key=key).content == first.content
    assert (refused.status_code, script.calls) == (403, 1)
    assert first.json()["nonce"] not in refused.content.decode()
    assert "Location" not in refused


@pytest.mark.parametrize("key", ["malformed", None])
def test_a11_123_the_key_is_read_after_authentication_permission_and_throttle(alice: Caller, key: str | None) -> None:
    cache.clear()
    anonymous = Client()
    assert anonymous.post("/throttled/", headers={"Idempotency-Key": "malformed"}).status_code == 401
    for _ in range(2):
        assert alice.post("/throttled/", key="malformed").status_code == 400
    assert alice.post("/throttled/", key=key).status_code == 429
    ban(alice)
    assert alice.post("/required/", key=key).status_code == 403
    cache.clear()


def test_a11_123_a_deactivated_user_gets_no_replay(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        alice.post("/required/", key=key)
        alice.user.is_active = False
        alice.user.save()
        refused = alice.post("/required/", key=key)
    assert (refused.status_code, script.calls) == (401, 1)


def test_a11_123_the_key_is_validated_before_the_look_up(alice: Caller, queries: CaptureQueriesContext) -> None:
    assert alice.post("/required/", key="malformed").status_code == 400
    assert look_ups(queries) == 0


def test_a11_124_object_permissions_are_checked_again_before_a_replay(alice: Caller) -> None:
    payment = Payment.objects.create(amount=1)
    key = new_key()

    def patch() -> Any:
        return alice.send("PATCH", f"/model/{payment.pk}/", {"amount": 2}, key=key)

    first = patch()
    assert (first.status_code, patch().content) == (200, first.content)
    Payment.objects.update(reference="frozen")
    assert patch().status_code == 403
    Payment.objects.update(reference="")
    assert patch().content == first.content
    Payment.objects.all().delete()
    assert patch().status_code == 404


def test_a11_124_they_are_checked_before_an_outcome_without_body_is_told_too(alice: Caller) -> None:
    payment = Payment.objects.create(amount=1)
    key = new_key()
    ending = lambda request: StreamingHttpResponse(iter([b"x"]), headers={"Location": "/exports/secret/"})  # noqa: E731
    with scripted(ending) as script:
        alice.post(f"/model/{payment.pk}/export/", key=key).close()
        retry = alice.post(f"/model/{payment.pk}/export/", key=key)
        assert (retry.status_code, retry["Location"]) == (409, "/exports/secret/")
        Payment.objects.update(reference="frozen")
        refused = alice.post(f"/model/{payment.pk}/export/", key=key)
    assert (refused.status_code, script.calls) == (403, 1)
    assert "Location" not in refused


def test_a11_124_a_deletion_is_replayed_although_its_object_is_gone(alice: Caller) -> None:
    payment = Payment.objects.create(amount=1)
    key = new_key()
    answers = [alice.send("DELETE", f"/model/{payment.pk}/", key=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[1]["Idempotent-Replayed"] == "true"


def test_a11_124_a_deletion_is_not_replayed_to_whom_the_object_is_closed_now(alice: Caller) -> None:
    payment = Payment.objects.create(amount=1)
    key = new_key()
    alice.send("DELETE", f"/model/{payment.pk}/", key=key)
    Payment.objects.create(pk=payment.pk, amount=1, reference="frozen")
    assert alice.send("DELETE", f"/model/{payment.pk}/", key=key).status_code == 403


def test_a11_125_a_session_without_csrf_token_gets_403_before_the_look_up(
    alice: Caller, queries: CaptureQueriesContext
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice.user)
    client.cookies["csrftoken"] = token = "a" * 32
    key = {"Idempotency-Key": f'"{new_key()}"'}

    def post(**headers: str) -> Any:
        return client.post("/required/", "{}", content_type="application/json", headers={**key, **headers})

    with scripted() as script:
        first = post(**{"X-CSRFToken": token})
        before = look_ups(queries)
        refusals = [post(), post(**{"X-CSRFToken": "b" * 32})]
        assert look_ups(queries) == before > 0
        again = post(**{"X-CSRFToken": token})
    assert [refusal.status_code for refusal in refusals] == [403, 403]
    assert first.status_code == 201
    assert not [refusal for refusal in refusals if first.json()["nonce"] in refusal.content.decode()]
    assert (again.content, script.calls) == (first.content, 1)


def test_a11_126_nothing_of_the_package_imports_a_serializer_that_runs_code() -> None:
    root = Path(django_idempotency.__file__).parent
    imported: set[str] = set()
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert "json" in imported
    assert not imported & {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}


def test_a11_126_nothing_is_pickled_between_a_request_and_its_replay(
    alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("pickled")

    for name in ("dumps", "loads", "dump", "load"):
        monkeypatch.setattr(pickle, name, refuse)
    key = new_key()
    with scripted():
        first, again = (alice.post("/required/", key=key) for _ in range(2))
    assert again.content == first.content
    record = Record.objects.get()
    assert bytes(record.response_body) == first.content
    assert [name for name, _ in record.response_headers] == ["Content-Type", "Location"]


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_a11_127_the_body_of_a_request_is_not_stored(alice: Caller, content_type: str) -> None:
    body = {
        "application/json": json.dumps({"card": SENT}),
        "application/x-www-form-urlencoded": f"card={SENT}",
        "text/plain": SENT,
    }[content_type]
    with scripted(lambda request: Response({"length": len(str(request.data))})):
        response = alice.post(f"/negotiating/?token={SENT}", body, key=new_key(), content_type=content_type)
    assert response.status_code == 200
    assert "length" in stored()
    assert SENT not in stored()
    assert alice.token.key not in stored()


def test_a11_127_an_uploaded_file_is_not_stored(alice: Caller) -> None:
    parts = (
        f'--x\r\nContent-Disposition: form-data; name="card"\r\n\r\n{SENT}\r\n'
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="{SENT}.txt"\r\n\r\n{SENT}\r\n--x--\r\n'
    )
    with scripted(lambda request: Response({"files": len(request.FILES)})):
        alice.post("/negotiating/", parts, key=new_key(), content_type="multipart/form-data; boundary=x")
    assert '{"files":1}' in stored()
    assert SENT not in stored()


def shape(response: Any) -> tuple[int, set[str], set[str]]:
    return response.status_code, set(response.headers), set(response.json())


def test_a11_130_a_key_known_to_somebody_else_is_answered_like_an_unknown_one(alice: Caller, bob: Caller) -> None:
    theirs = new_key()
    with scripted() as script:
        secret = alice.post("/required/", key=theirs)
        bob.post("/required/", key=new_key())  # the first request of a process loads what later ones do not
        with CaptureQueriesContext(connection) as on_unknown:
            unknown = bob.post("/required/", key=new_key())
        with CaptureQueriesContext(connection) as on_foreign:
            foreign = bob.post("/required/", key=theirs)
    assert shape(foreign) == shape(unknown)
    assert script.calls == 4
    assert secret.json()["nonce"] not in foreign.content.decode()
    assert [query["sql"].split("(")[0] for query in on_foreign] == [query["sql"].split("(")[0] for query in on_unknown]


def test_a11_130_another_request_under_a_foreign_key_is_no_mismatch(alice: Caller, bob: Caller) -> None:
    key = new_key()
    with scripted():
        alice.post("/required/", {"amount": 3}, key=key)
        assert bob.post("/required/", {"amount": 4}, key=key).status_code == 201
        refused = bob.post("/required/", {"amount": 5}, key=key)
        also_refused = alice.post("/required/", {"amount": 5}, key=key)
    assert shape(refused) == shape(also_refused)
    assert refused.content == also_refused.content


@pytest.mark.postgresql
def test_a11_130_a_foreign_key_in_flight_is_answered_like_an_unknown_one(alice: Caller, bob: Caller) -> None:
    theirs = new_key()
    with in_flight(alice, "/required/", key=theirs) as flight:
        with scripted():
            foreign = bob.post("/required/", key=theirs)
            unknown = bob.post("/required/", key=new_key())
        assert not flight.response.done()
    assert shape(foreign) == shape(unknown)
    assert foreign.status_code == 201


def test_a11_130_refusals_say_the_same_whoever_asks(alice: Caller, bob: Caller) -> None:
    key = new_key()
    with scripted():
        alice.post("/required/", key=key)
    anonymous = Client()
    answers = [
        anonymous.post("/required/", "{}", content_type="application/json", headers={"Idempotency-Key": f'"{value}"'})
        for value in (key, new_key())
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content
    ban(bob)
    refusals = [bob.post("/required/", key=value) for value in (key, new_key())]
    assert [refusal.status_code for refusal in refusals] == [403, 403]
    assert refusals[0].content == refusals[1].content


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Every log record of every logger, the statements of the database among them."""
    for name in (None, "django", "django.request", "django.db", "django.db.backends", "django_idempotency"):
        caplog.set_level(logging.DEBUG, logger=name)
    connection.force_debug_cursor = True
    yield caplog
    connection.force_debug_cursor = False


def everything(record: logging.LogRecord) -> str:
    """Return all of a log record that a handler could write, the arguments and the traceback included."""
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    return f"{record.getMessage()} {record.__dict__!r} {trace}"


def answering(request: Request) -> HttpResponseBase:
    return HttpResponse(json.dumps({"answer": ANSWERED}), status=201, content_type="application/json")


def crashing(request: Request) -> HttpResponseBase:
    raise ArithmeticError("a bug")


def test_a11_132_no_log_record_contains_a_key_or_a_body(alice: Caller, logged: pytest.LogCaptureFixture) -> None:
    keys = {name: new_key() for name in ("kept", "failed", "in flight", "malformed")}
    keys["malformed"] += "-malformed"
    body = {"card": SENT}
    with scripted(answering) as script:
        statuses = [
            alice.post("/required/", body, key=keys["kept"]).status_code,
            alice.post("/required/", body, key=keys["kept"]).status_code,
            alice.post("/required/", {"card": f"{SENT} again"}, key=keys["kept"]).status_code,
            alice.post("/required/", body, key=keys["malformed"]).status_code,
            alice.post("/required/", body, raw_key=f'"{keys["malformed"]}').status_code,
        ]
    with scripted(crashing):
        statuses.append(alice.post("/required/", body, key=keys["failed"]).status_code)
    with in_flight(alice, "/required/", body, key=keys["in flight"], ending=answering):
        # Not impatient(): this connection is the one whose statements are logged.
        if connection.vendor == "sqlite":
            connection.cursor().execute("PRAGMA busy_timeout = 50")
        statuses.append(alice.post("/required/", body, key=keys["in flight"]).status_code)
    assert statuses == [201, 201, 422, 400, 400, 500, 409]
    assert script.calls == 1
    texts = [everything(record) for record in logged.records]
    statements = [text for text in texts if "idempotency_record" in text]
    assert [text for text in statements if "INSERT" in text]
    assert [text for text in statements if "SELECT" in text]
    for secret in (*keys.values(), SENT, ANSWERED):
        assert not [text for text in texts if secret in text], secret
    connection.close()


def test_a11_132_the_list_of_queries_contains_neither_keys_nor_bodies(
    alice: Caller, queries: CaptureQueriesContext
) -> None:
    key = new_key()
    with scripted(answering):
        for _ in range(2):
            alice.post("/required/", {"card": SENT}, key=key)
    assert look_ups(queries) >= 3
    assert not [query for query in queries.captured_queries if key in query["sql"] or ANSWERED in query["sql"]]


def test_a11_132_the_error_report_of_a_crash_in_the_view_does_not_contain_the_key(alice: Caller) -> None:
    key = new_key()
    reports: list[str] = []

    def report(request: Any, **options: Any) -> None:
        reporter = ExceptionReporter(request, *sys.exc_info())
        reports.extend((reporter.get_traceback_html(), reporter.get_traceback_text()))

    got_request_exception.connect(report)
    try:
        with scripted(crashing):
            assert alice.post("/required/", {"card": SENT}, key=key).status_code == 500
    finally:
        got_request_exception.disconnect(report)
    assert len(reports) == 2
    for text in reports:
        assert "a bug" in text
        assert key not in text


def test_a11_132_what_is_shown_of_an_outcome_is_not_its_body() -> None:
    shown = repr(Outcome(status=200, headers=(("Location", "/tokens/secret/"),), body=ANSWERED.encode()))
    assert "200" in shown
    assert ANSWERED not in shown
    assert "secret" not in shown


def test_a11_132_what_is_shown_of_a_claim_is_neither_the_key_nor_a_bare_hash(alice: Caller) -> None:
    shown: list[str] = []
    digests: list[bytes] = []

    def ending(request: Request) -> HttpResponseBase:
        operation = request.idempotency.operation
        shown.extend((repr(request.idempotency), repr(operation), str(operation.key), f"{operation.key!r}"))
        digests.append(operation.content_digest)
        return created(request)

    key = new_key()
    with scripted(ending):
        alice.post("/required/", key=key)
    assert len(shown) == 4
    for text in shown:
        assert key not in text
        assert repr(digests[0]) not in text

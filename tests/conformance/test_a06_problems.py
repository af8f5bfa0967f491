"""A6: problem details."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client
from rest_framework.request import Request

from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.http.problems import every_problem
from django_idempotency.models import Record as Row
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.writes import DedupWindow
from tests.callers import Caller, new_key
from tests.conformance import urls_leases
from tests.conformance.views_responses import impatient, in_flight, scripted

pytestmark = pytest.mark.urls("tests.conformance.urls_leases")


class UnreachableStore(DatabaseStore):
    """A store that is out of order."""

    def claim(self, operation: Operation) -> Claim | Record:
        raise StoreUnavailable

    def recall(self, operation: Operation) -> Record | None:
        raise StoreUnavailable


STORES = {
    "default": {"BACKEND": "django_idempotency.stores.database.DatabaseStore"},
    "elsewhere": {"BACKEND": f"{__name__}.UnreachableStore"},
}


def missing_key(caller: Caller, key: str, **options: Any) -> Any:
    return caller.post("/required/", **options)


def malformed_key(caller: Caller, key: str, **options: Any) -> Any:
    return caller.post("/required/", raw_key=f'"{key}', **options)


def key_reused(caller: Caller, key: str, **options: Any) -> Any:
    with scripted():
        caller.post("/required/", {"amount": 3}, key=key)
    return caller.post("/required/", {"amount": 4}, key=key, **options)


def in_progress(caller: Caller, key: str, **options: Any) -> Any:
    with in_flight(caller, "/required/", key=key), impatient():
        return caller.post("/required/", key=key, **options)


def not_replayable(caller: Caller, key: str, **options: Any) -> Any:
    with scripted(lambda request: StreamingHttpResponse(iter([b"x"]), headers={"Location": "/payments/7/"})):
        caller.post("/required/", key=key).close()
    return caller.post("/required/", key=key, **options)


def outcome_unknown(caller: Caller, key: str, **options: Any) -> Any:
    with scripted(lambda request: HttpResponse(status=500)):
        caller.post("/unknown/", key=key)
    return caller.post("/unknown/", key=key, **options)


def outcome_unreadable(caller: Caller, key: str, **options: Any) -> Any:
    with scripted():
        caller.post("/encrypted/", key=key)
    Row.objects.filter(key=key).update(response_body=bytes(64))
    return caller.post("/encrypted/", key=key, **options)


def lease_lost(caller: Caller, key: str, **options: Any) -> Any:
    def lose(request: Request) -> HttpResponse:
        DatabaseStore().release(request.idempotency, unknown=False)
        return HttpResponse(status=201)

    with scripted(lose):
        return caller.post("/leased/", key=key, **options)


def duplicate(caller: Caller, key: str, **options: Any) -> Any:
    window = DedupWindow("problems", ttl=timedelta(hours=1), fields=("amount",), on_duplicate="raise")

    def handle(request: Request) -> HttpResponse:
        window.split([{"amount": 3}, {"amount": 3}])
        return HttpResponse(status=201)

    with scripted(handle):
        return caller.post("/required/", key=key, **options)


def store_unavailable(caller: Caller, key: str, **options: Any) -> Any:
    return caller.post("/elsewhere/", key=key, **options)


def not_supported(caller: Caller, key: str, **options: Any) -> Any:
    return caller.post("/not-enrolled/", key=key, **options)


REFUSALS: dict[str, tuple[int, Callable[..., Any]]] = {
    "missing-key": (400, missing_key),
    "malformed-key": (400, malformed_key),
    "key-reused": (422, key_reused),
    "in-progress": (409, in_progress),
    "response-not-replayable": (409, not_replayable),
    "outcome-unreadable": (503, outcome_unreadable),
    "outcome-unknown": (409, outcome_unknown),
    "lease-lost": (409, lease_lost),
    "duplicate": (409, duplicate),
    "store-unavailable": (503, store_unavailable),
    "not-supported": (501, not_supported),
}
TITLES = {
    "missing-key": "Idempotency-Key is missing",
    "key-reused": "Idempotency-Key is already used",
    "in-progress": "A request is outstanding for this Idempotency-Key",
}
RETRYABLE = ("in-progress", "lease-lost", "outcome-unreadable", "store-unavailable")
# This module is a URLconf too: the one of a project that does not route the problem types.
urlpatterns = [route for route in urls_leases.urlpatterns if getattr(route, "namespace", "") != "idempotency"]
each_refusal = pytest.mark.parametrize("code", REFUSALS)


@pytest.fixture(autouse=True)
def _every_cause(settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = STORES
    settings.IDEMPOTENCY_UNENROLLED = "refuse"


def refusal(code: str, caller: Caller, key: str, **options: Any) -> Any:
    status, refuse = REFUSALS[code]
    response = refuse(caller, key, **options)
    assert (response.status_code, response.json()["code"]) == (status, code)
    return response


@each_refusal
def test_a6_76_a_problem_has_the_members_of_rfc_9457_and_says_whether_to_retry(alice: Caller, code: str) -> None:
    response = refusal(code, alice, new_key())
    problem = response.json()
    assert response["Content-Type"] == "application/problem+json"
    assert response["Content-Language"] == "en"
    assert response["Cache-Control"] == "no-store"
    assert response["Link"] == f'<{problem["type"]}>; rel="describedby"; type="text/html"'
    assert problem.keys() == {"type", "title", "status", "detail", "instance", "code", "retryable"}
    assert problem["status"] == response.status_code
    assert problem["instance"] == urlsplit(response.wsgi_request.path).path
    assert problem["detail"]
    assert problem["title"] == TITLES.get(code, problem["title"])
    assert problem["retryable"] is (code in RETRYABLE)
    assert ("Retry-After" in response) is problem["retryable"]
    assert response["Idempotency-Should-Retry"] == ("true" if problem["retryable"] else "false")


def test_a6_77_each_cause_has_a_type_of_its_own() -> None:
    problems = list(every_problem())
    assert {problem.code for problem in problems} == set(REFUSALS)
    assert len({problem.code for problem in problems}) == len({problem.title for problem in problems}) == len(problems)


@each_refusal
def test_a6_77_the_type_is_a_stable_address(alice: Caller, code: str) -> None:
    types = {refusal(code, alice, new_key()).json()["type"] for _ in range(2)}
    assert types == {f"http://testserver/idempotency/problems/{code}/"}


@each_refusal
@pytest.mark.urls(__name__)
def test_a6_77_the_type_is_a_urn_where_the_addresses_are_not_routed(alice: Caller, code: str) -> None:
    response = refusal(code, alice, new_key())
    assert response.json()["type"] == f"urn:idempotency:{code}"
    assert "Link" not in response


@each_refusal
def test_a6_78_each_type_leads_to_a_page_on_the_server_itself(alice: Caller, code: str) -> None:
    problem = refusal(code, alice, new_key()).json()
    page = Client().get(urlsplit(problem["type"]).path, headers={"Accept": "text/html"})
    text = page.content.decode()
    assert (page.status_code, page["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert f"<h1>{problem['title']}</h1>" in text
    assert str(problem["status"]) in text
    assert ("may be sent again" in text) is problem["retryable"]


def test_a6_78_the_page_publishes_the_policy(client: Client, settings: Any) -> None:
    settings.IDEMPOTENCY_TTL = 3 * 3600
    settings.IDEMPOTENCY_HEADERS = ("X-Once", "Idempotency-Key")
    settings.IDEMPOTENCY_KEY_FORMAT = "uuid"
    text = client.get("/idempotency/problems/key-reused/").content.decode()
    for fact in ("X-Once", "Idempotency-Key", "a UUID", "10800 seconds"):
        assert fact in text
    assert "ULID" not in text
    settings.IDEMPOTENCY_KEY_FORMAT = str.isdigit
    assert "documented by each operation" in client.get("/idempotency/problems/key-reused/").content.decode()


def test_a6_78_an_unknown_type_is_not_found(client: Client) -> None:
    assert client.get("/idempotency/problems/no-such-problem/").status_code == 404


@each_refusal
@pytest.mark.parametrize("accept", ["application/json", "text/html, */*; q=0.8", "application/problem+json, */*"])
def test_a6_79_whatever_is_accepted_the_body_is_usable(alice: Caller, code: str, accept: str) -> None:
    response = refusal(code, alice, new_key(), headers={"Accept": accept})
    assert response.json()["code"] == code


def test_a6_79_the_browsable_api_gets_a_usable_body_and_shows_its_pages(alice: Caller) -> None:
    key = new_key()
    html = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    with scripted() as script:
        first = alice.post("/negotiating/", {"amount": 3}, key=key, headers=html)
        again = alice.post("/negotiating/", {"amount": 3}, key=key, headers=html)
    refused = alice.post("/negotiating/", {"amount": 4}, key=key, headers=html)
    assert first["Content-Type"] == again["Content-Type"] == "text/html; charset=utf-8"
    assert b"Django REST framework" in first.content
    assert (again.content, script.calls) == (first.content, 1)
    assert (refused.status_code, refused.json()["code"]) == (422, "key-reused")
    page = alice.send("GET", "/negotiating/", headers=html)
    assert page.status_code == 200
    assert b"Django REST framework" in page.content


@each_refusal
def test_a6_81_the_key_is_not_echoed(alice: Caller, code: str) -> None:
    key = new_key()
    response = refusal(code, alice, key)
    sent = [response.content.decode(), *(f"{name}: {value}" for name, value in response.items())]
    assert not [text for text in sent if key in text or key[:8] in text]


@pytest.mark.parametrize(
    "raw_key", ["<script>alert(1)</script>", '"unterminated', "with, comma", "not a uuid", "\x01", "ключ"]
)
def test_a6_81_a_malformed_key_is_not_echoed_either(alice: Caller, raw_key: str) -> None:
    response = alice.post("/required/", raw_key=raw_key)
    assert response.json()["code"] == "malformed-key"
    sent = response.content.decode() + repr(response.headers)
    assert not [word for word in re.split(r"\W+", raw_key) if len(word) > 4 and word in sent]
    assert raw_key not in sent

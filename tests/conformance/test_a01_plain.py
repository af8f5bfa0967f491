"""A1: keys of plain views, enrolled by the decorator or by the middleware."""

from __future__ import annotations

from typing import Any

import pytest

from django_idempotency import Policy
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.conformance.callers_plain import MIDDLEWARE, AsgiClient, assert_runs_once, log_in
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_plain")

ENROLLED = {
    "ns:*": Policy(required=True),
    "class": Policy(),
    "async-bare*": Policy(required=True),
    "opted-out": Policy(),
}
DECORATED = ("/decorated/", "/decorated-class/", "/async/", "/async-class/")
BY_MIDDLEWARE = ("/ns/payments/", "/attribute/", "/async-bare/", "/async-bare-class/")
OPTIONAL = ("/optional/", "/async-optional/", "/class/")


@pytest.fixture(params=[None, AsgiClient], ids=["wsgi", "asgi"])
def alice(alice: Caller, request: pytest.FixtureRequest, settings: Any) -> Caller:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY_ENROLLED = ENROLLED
    return log_in(alice, request.param and request.param())


@pytest.mark.parametrize("path", [*DECORATED, *BY_MIDDLEWARE, *OPTIONAL, "/leased/"])
def test_a1_1_a_key_is_accepted_and_its_request_runs_once(alice: Caller, path: str) -> None:
    assert "Idempotency-Status" not in assert_runs_once(alice, path)


@pytest.mark.parametrize("path", ["/decorated/", "/async/", "/ns/payments/"])
@pytest.mark.parametrize("raw_key", ['"open', '"a","b"', "", "not a uuid"])
def test_a1_5_a_malformed_key_is_refused(alice: Caller, path: str, raw_key: str) -> None:
    refused = alice.post(path, raw_key=raw_key)
    assert (refused.status_code, refused.json()["code"], rows()) == (400, "malformed-key", (0, 0))


@pytest.mark.parametrize("path", [*DECORATED, *BY_MIDDLEWARE])
def test_a1_15_a_missing_key_is_refused_where_it_is_required(alice: Caller, path: str) -> None:
    refused = alice.post(path)
    assert (refused.status_code, refused.json()["code"], rows()) == (400, "missing-key", (0, 0))
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["type"] in refused["Link"]


@pytest.mark.parametrize("path", OPTIONAL)
def test_a1_15_without_a_key_an_optional_view_runs_each_time_and_says_so(alice: Caller, path: str) -> None:
    answers = [alice.post(path) for _ in range(2)]
    assert [(answer.status_code, answer["Idempotency-Status"]) for answer in answers] == [(201, "unprotected")] * 2
    assert rows() == (2, 0)


NOT_ENROLLED = [
    pytest.param("PUT", "/decorated-class/", id="a method that the decorator leaves out"),
    pytest.param("POST", "/every-method/", id="a method left out by the policy"),
    pytest.param("PUT", "/class/", id="a method that the middleware leaves out"),
    pytest.param("POST", "/bare/", id="a view that nobody enrols"),
    pytest.param("POST", "/opted-out/", id="a view that opts out of a pattern"),
    pytest.param("POST", "/drf/", id="a DRF view that nobody enrols"),
]


@pytest.mark.parametrize(("method", "path"), NOT_ENROLLED)
def test_a1_16_a_key_on_what_is_not_enrolled_is_ignored_and_that_is_said(alice: Caller, method: str, path: str) -> None:
    key, body = new_key(), {"amount": 3}
    answers = [alice.send(method, path, body, key=key), alice.send(method, path, body, raw_key='"malformed')]
    assert [(answer.status_code, answer["Idempotency-Status"]) for answer in answers] == [(201, "ignored")] * 2
    assert "Idempotency-Status" not in alice.send(method, path, body)
    assert rows() == (3, 0)


@pytest.mark.parametrize(("method", "path"), NOT_ENROLLED)
def test_a1_16_a_key_on_what_is_not_enrolled_is_refused_where_told_so(
    alice: Caller, method: str, path: str, settings: Any
) -> None:
    settings.IDEMPOTENCY_UNENROLLED = "refuse"
    refused = alice.send(method, path, {"amount": 3}, key=new_key())
    assert (refused.status_code, refused.json()["code"], rows()) == (501, "not-supported", (0, 0))
    assert "Idempotency-Status" not in refused
    assert alice.send(method, path, {"amount": 3}).status_code == 201


@pytest.mark.parametrize("unenrolled", ["ignore", "refuse"])
@pytest.mark.parametrize("path", ["/decorated-class/", "/async-class/", "/attribute/", "/class/", "/opted-out/"])
@pytest.mark.parametrize("raw_key", ['"malformed', "", '"8e03978e-40d5-43e8-bc93-6894a57f9324"'])
def test_a1_17_reads_are_never_kept_and_their_key_is_harmless(
    alice: Caller, path: str, raw_key: str, unenrolled: str, settings: Any
) -> None:
    settings.IDEMPOTENCY_UNENROLLED = unenrolled
    answer = alice.send("GET", path, raw_key=raw_key)
    assert (answer.status_code, answer["Idempotency-Status"], answer.json()) == (200, "ignored", {"payments": 0})
    assert Record.objects.count() == 0


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("path", ["/decorated-class/", "/attribute/"])
def test_a1_17_post_and_patch_are_enrolled_by_default(alice: Caller, method: str, path: str) -> None:
    assert_runs_once(alice, path, method=method)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a1_17_put_and_delete_are_enrolled_where_the_policy_says_so(alice: Caller, method: str) -> None:
    assert_runs_once(alice, "/every-method/", method=method)

"""A5: the replayed response."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.db import connection, transaction
from django.db.models.signals import post_save
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseBase,
    HttpResponsePermanentRedirect,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.test.utils import CaptureQueriesContext
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency import Policy
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.conformance.views_responses import created, scripted
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_responses")

EVERY_BYTE = bytes(range(256))
KEPT = {
    "Content-Type": "application/vnd.tests+json",
    "Content-Language": "de",
    "Content-Disposition": 'attachment; filename="receipt.json"',
    "Location": "/payments/7/",
    "Content-Location": "/payments/7/?version=1",
    "ETag": '"v1"',
    "Last-Modified": "Tue, 01 Jan 2030 00:00:00 GMT",
    "Link": '</terms/>; rel="terms-of-service", </help/>; rel="help"',
    "Cache-Control": "private, max-age=60",
}
NEVER_KEPT = {
    "Authorization": "Bearer secret",
    "WWW-Authenticate": "Basic",
    "Proxy-Authenticate": "Basic",
    "Proxy-Connection": "close",
    "Date": "Tue, 01 Jan 2030 00:00:00 GMT",
    "Age": "3",
    "Server": "tests",
    "Connection": "close",
    "Keep-Alive": "timeout=5",
    "TE": "trailers",
    "Trailer": "Expires",
    "Transfer-Encoding": "chunked",
    "Upgrade": "h2c",
    "RateLimit": '"burst";r=1',
    "RateLimit-Policy": '"burst";q=2',
    "X-RateLimit-Remaining": "1",
    "Retry-After": "1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "X-Request-Id": "of the first request",
    "Content-Security-Policy": "script-src 'nonce-first'",
    "Access-Control-Allow-Origin": "https://first.example",
    "Access-Control-Expose-Headers": "X-Anything",
}


def twice(caller: Caller, path: str, ending: Any, **options: Any) -> tuple[Any, Any]:
    """Send one request twice; the view must run once."""
    key = new_key()
    with scripted(ending) as script:
        first, again = (caller.post(path, key=key, **options) for _ in range(2))
    assert (script.calls, Payment.objects.count()) == (1, 1)
    return first, again


def test_a5_61_a_replay_is_marked_by_a_header_whose_name_is_a_setting(alice: Caller, settings: Any) -> None:
    first, again = twice(alice, "/required/", created)
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    Payment.objects.all().delete()
    settings.IDEMPOTENCY_REPLAYED_HEADER = "Idempotency-Replayed"
    first, again = twice(alice, "/required/", created)
    assert (first.get("Idempotency-Replayed"), again["Idempotency-Replayed"]) == (None, "true")
    assert "Idempotent-Replayed" not in again


def test_a5_62_the_marker_is_added_when_sending_and_is_not_stored(alice: Caller, settings: Any) -> None:
    key = new_key()
    with scripted():
        alice.post("/required/", key=key)
        alice.post("/required/", key=key)
        stored = {name.lower() for name, _ in Record.objects.get().response_headers}
        settings.IDEMPOTENCY_REPLAYED_HEADER = "Idempotency-Replay"
        renamed = alice.post("/required/", key=key)
    assert stored == {"content-type", "location"}
    assert renamed["Idempotency-Replay"] == "true"
    assert "Idempotent-Replayed" not in renamed


def with_every_header(request: Request) -> HttpResponse:
    extras = {"X-Total-Count": "3", "X-Batch": "b-1", "X-Unnamed": "1"}
    response = HttpResponse(b"{}", headers={**KEPT, **NEVER_KEPT, **extras})
    response.set_cookie("session", "secret")
    return response


def test_a5_63_the_headers_that_describe_the_outcome_are_replayed(alice: Caller) -> None:
    first, again = twice(alice, "/required/", with_every_header)
    for response in (first, again):
        assert {name: response[name] for name in KEPT} == KEPT
    assert "X-Total-Count" not in again


def test_a5_63_a_policy_names_further_headers(alice: Caller) -> None:
    _, again = twice(alice, "/extra/", with_every_header)
    assert {name: again[name] for name in KEPT} == KEPT
    assert (again["x-total-count"], again["x-batch"], again.get("X-Unnamed")) == ("3", "b-1", None)


def test_a5_64_what_belongs_to_one_exchange_is_never_replayed_nor_stored(alice: Caller) -> None:
    first, again = twice(alice, "/extra/", with_every_header)
    assert {name: first[name] for name in NEVER_KEPT} == NEVER_KEPT
    assert not [name for name in NEVER_KEPT if name in again]
    assert not again.cookies
    stored = {name.lower() for name, _ in Record.objects.get().response_headers}
    assert stored == {name.lower() for name in KEPT} | {"x-total-count", "x-batch"}


REFUSED = (
    *("Set-Cookie", "Authorization", "WWW-Authenticate", "Proxy-Authenticate", "Date", "Age", "Server", "Connection"),
    *("Keep-Alive", "TE", "Trailer", "Upgrade", "Transfer-Encoding", "Content-Length", "Retry-After", "traceparent"),
    *("X-Request-Id", "Content-Security-Policy"),
)
FAMILIES = (
    *("Proxy-Anything", "RateLimit", "RateLimit-Limit", "X-RateLimit-Remaining", "tracestate"),
    *("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Content-Security-Policy-Report-Only"),
)


@pytest.mark.parametrize("name", [*REFUSED, *FAMILIES])
def test_a5_64_no_policy_can_have_such_a_header_replayed(name: str) -> None:
    with pytest.raises(ValueError, match="never replayed"):
        Policy(headers=("X-Total-Count", name))


def test_a5_65_location_is_replayed(alice: Caller) -> None:
    first, again = twice(alice, "/required/", created)
    assert first["Location"] == again["Location"] == f"/payments/{Payment.objects.get().pk}/"


def test_a5_66_cors_security_and_request_id_headers_are_of_the_request_at_hand(alice: Caller, settings: Any) -> None:
    middleware = "tests.conformance.views_responses.ExchangeHeadersMiddleware"
    settings.MIDDLEWARE = [middleware, "django.middleware.security.SecurityMiddleware", *settings.MIDDLEWARE]
    key = new_key()
    with scripted() as script:
        first = alice.post("/extra/", key=key, headers={"Origin": "https://one.example"})
        again = alice.post("/extra/", key=key, headers={"Origin": "https://two.example"})
    assert (script.calls, again.content) == (1, first.content)
    assert first["Access-Control-Allow-Origin"] == "https://one.example"
    assert again["Access-Control-Allow-Origin"] == "https://two.example"
    assert first["X-Content-Type-Options"] == again["X-Content-Type-Options"] == "nosniff"
    for name in ("X-Request-Id", "Content-Security-Policy"):
        assert len({first[name], again[name]}) == 2
    assert again["Vary"] == first["Vary"]


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("response_class", [HttpResponse, Response])
def test_a5_67_an_empty_answer_replays_without_body_and_content_type(
    alice: Caller, status: int, response_class: type[HttpResponse]
) -> None:
    _, again = twice(alice, "/required/", lambda request: response_class(status=status, headers={"ETag": '"v1"'}))
    assert (again.status_code, again.content, again["ETag"]) == (status, b"", '"v1"')
    assert "Content-Type" not in again


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a5_67_what_a_view_put_into_an_answer_without_a_body_is_not_kept(alice: Caller, status: int) -> None:
    def ending(request: Request) -> HttpResponse:
        return HttpResponse(b"not allowed here", status=status, headers={"Content-Language": "de"})

    _, again = twice(alice, "/required/", ending)
    assert (again.status_code, again.content) == (status, b"")
    assert not [name for name in again.headers if name.lower().startswith("content-") and name != "Content-Length"]
    assert bytes(Record.objects.get().response_body) == b""


def test_a5_67_a_streaming_answer_of_status_204_is_replayed_too(alice: Caller) -> None:
    first, again = twice(alice, "/required/", lambda request: StreamingHttpResponse(iter(()), status=204))
    first.close()
    assert (again.status_code, again.content) == (204, b"")


BODIES = [EVERY_BYTE * 5, b"", b"\x00", b" \r\n x \n", gzip.compress(b"x"), '{"ä": 1.0, "b":\n 2}'.encode("utf-16")]


@pytest.mark.parametrize("body", BODIES)
def test_a5_68_a_binary_body_is_replayed_byte_for_byte(alice: Caller, body: bytes) -> None:
    first, again = twice(
        alice, "/required/", lambda request: HttpResponse(body, content_type="application/octet-stream")
    )
    assert first.content == again.content == body
    assert first["Content-Type"] == again["Content-Type"] == "application/octet-stream"


def test_a5_68_json_is_replayed_as_it_was_written(alice: Caller) -> None:
    body = b'{ "b": 1.00,  "a": 10000000000000000000000001, "a": null }'
    _, again = twice(alice, "/required/", lambda request: HttpResponse(body, content_type="application/json"))
    assert again.content == body


@pytest.mark.parametrize("order", [("gzip", "identity"), ("identity", "gzip"), ("gzip", "gzip")], ids="-then-".join)
def test_a5_69_a_body_is_stored_uncompressed(alice: Caller, settings: Any, order: tuple[str, str]) -> None:
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    body = json.dumps({"text": "compressible " * 100}).encode()

    def ending(request: Request) -> HttpResponse:
        return HttpResponse(body, content_type="application/json", headers={"ETag": '"v1"'})

    key = new_key()
    with scripted(ending) as script:
        answers = [alice.post("/required/", key=key, headers={"Accept-Encoding": coding}) for coding in order]
    assert script.calls == 1
    for answer, coding in zip(answers, order, strict=True):
        assert int(answer["Content-Length"]) == len(answer.content)
        if coding == "gzip":
            assert (answer["Content-Encoding"], answer["ETag"]) == ("gzip", 'W/"v1"')
            assert gzip.decompress(answer.content) == body
        else:
            assert (answer.get("Content-Encoding"), answer["ETag"]) == (None, '"v1"')
            assert answer.content == body
    assert answers[1]["Idempotent-Replayed"] == "true"
    assert bytes(Record.objects.get().response_body) == body


def test_a5_70_another_accept_on_the_retry_gets_the_stored_bytes_with_their_true_type(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        first = alice.post("/negotiating/", key=key, headers={"Accept": "application/json"})
        others = [
            alice.post("/negotiating/", key=key, headers={"Accept": accept})
            for accept in ("text/html", "application/vnd.tests.reversed", "*/*")
        ]
    assert script.calls == 1
    assert first["Content-Type"] == "application/json"
    for other in others:
        assert (other.content, other["Content-Type"]) == (first.content, "application/json")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a5_71_a_redirect_is_replayed_and_not_followed(alice: Caller, status: int) -> None:
    kind = HttpResponsePermanentRedirect if status in (301, 308) else HttpResponseRedirect

    def ending(request: Request) -> HttpResponse:
        response = kind("https://pay.example/checkout/")
        response.status_code = status
        return response

    _, again = twice(alice, "/required/", ending)
    assert (again.status_code, again["Location"]) == (status, "https://pay.example/checkout/")
    assert again["Idempotent-Replayed"] == "true"


HEADERS = {"Location": "/payments/7/", "ETag": '"v1"', "Content-Location": "/payments/7/?v=1"}


def streaming(request: Request) -> HttpResponseBase:
    return StreamingHttpResponse(iter([b"first ", b"second"]), content_type="text/plain", headers=HEADERS)


def a_file(request: Request) -> HttpResponseBase:
    return FileResponse(io.BytesIO(b"first second"), content_type="text/plain", headers=HEADERS)


def oversized(request: Request) -> HttpResponseBase:
    return HttpResponse(b"first second" * 6, content_type="text/plain", headers=HEADERS)


@pytest.mark.parametrize("ending", [streaming, a_file, oversized])
def test_a5_72_what_cannot_be_kept_is_never_executed_again(alice: Caller, ending: Any) -> None:
    key = new_key()
    with scripted(ending) as script:
        first = alice.post("/small/", key=key)
        whole = b"".join(first) if first.streaming else first.content
        first.close()
        retries = [alice.post("/small/", key=key) for _ in range(2)]
        other = alice.post("/small/", {"amount": 9}, key=key)
    assert (first.status_code, whole) == (200, b"first second" * (6 if ending is oversized else 1))
    assert (script.calls, Payment.objects.count()) == (1, 1)
    for retry in retries:
        assert retry.status_code == 409
        assert (retry.json()["code"], retry.json()["retryable"]) == ("response-not-replayable", False)
        assert {name: retry[name] for name in HEADERS} == HEADERS
        assert retry["Content-Type"] == "application/problem+json"
        assert "Idempotent-Replayed" not in retry
    assert other.status_code == 422
    assert Record.objects.get().response_body is None


def test_a5_72_a_body_of_just_the_size_that_is_kept_is_replayed(alice: Caller, settings: Any) -> None:
    _, again = twice(alice, "/small/", lambda request: HttpResponse(b"x" * 64))
    assert (again.status_code, again.content) == (200, b"x" * 64)
    Payment.objects.all().delete()
    settings.IDEMPOTENCY_MAX_BODY = 10
    _, again = twice(alice, "/required/", lambda request: HttpResponse(b"x" * 10))
    assert again.content == b"x" * 10
    Payment.objects.all().delete()
    _, again = twice(alice, "/required/", lambda request: HttpResponse(b"x" * 11))
    assert again.json()["code"] == "response-not-replayable"


@pytest.fixture
def saved() -> Iterator[list[Any]]:
    """What post_save told of."""
    told: list[Any] = []

    def receiver(**kwargs: Any) -> None:
        told.append(kwargs["instance"])

    post_save.connect(receiver)
    yield told
    post_save.disconnect(receiver)


def test_a5_73_a_replay_fires_no_signals_mail_hooks_or_writes(alice: Caller, saved: list[Any]) -> None:
    committed: list[str] = []

    def ending(request: Request) -> Response:
        mail.send_mail("paid", "you have paid", None, ["alice@example.org"])
        transaction.on_commit(lambda: committed.append("hook"))
        return created(request)

    key = new_key()
    with scripted(ending) as script:
        alice.post("/required/", key=key)
        assert (len(saved), len(mail.outbox), committed) == (1, 1, ["hook"])
        with CaptureQueriesContext(connection) as queries:
            assert alice.post("/required/", key=key)["Idempotent-Replayed"] == "true"
    assert (len(saved), len(mail.outbox), committed) == (1, 1, ["hook"])
    assert script.calls == 1
    statements = [query["sql"] for query in queries.captured_queries]
    assert any(statement.startswith("SELECT") for statement in statements)
    writes = [statement for statement in statements if statement.startswith(("INSERT", "UPDATE", "DELETE"))]
    assert [write.split()[2] for write in writes] == ['"idempotency_auditevent"']


def test_a5_74_cookies_and_multi_value_headers_of_the_first_response_are_untouched(alice: Caller) -> None:
    def ending(request: Request) -> Response:
        response = Response({}, headers={"Link": "</a>; rel=a, </b>; rel=b", "Vary": "Origin, Accept-Language"})
        response.set_cookie("one", "1", httponly=True)
        response.set_cookie("two", "2", path="/two/")
        return response

    first, again = twice(alice, "/required/", ending)
    assert [cookie.OutputString() for cookie in first.cookies.values()] == [
        "one=1; HttpOnly; Path=/",
        "two=2; Path=/two/",
    ]
    assert first["Link"] == again["Link"] == "</a>; rel=a, </b>; rel=b"
    assert first["Vary"] == "Origin, Accept-Language, Accept"
    assert not again.cookies


def test_a5_75_the_body_of_a_sensitive_response_is_not_stored_and_the_retry_gets_status_and_location(
    alice: Caller,
) -> None:
    secret = "an access token that nobody may read later"

    def ending(request: Request) -> HttpResponse:
        headers = {
            "Location": "/tokens/7/",
            "Content-Language": "en",
            "Content-Encoding": "identity",
            "Content-Disposition": "attachment",
        }
        return HttpResponse(json.dumps({"token": secret}), status=201, content_type="application/json", headers=headers)

    first, again = twice(alice, "/withheld/", ending)
    assert first.json() == {"token": secret}
    assert "Idempotency-Status" not in first
    assert (again.status_code, again.content, again["Location"]) == (201, b"", "/tokens/7/")
    assert (again["Idempotency-Status"], again["Idempotent-Replayed"]) == ("body-withheld", "true")
    described = {"Content-Type", "Content-Language", "Content-Encoding", "Content-Disposition"}
    assert not described & set(again.headers)
    for name, value in Record.objects.values().get().items():
        assert secret not in repr(bytes(value) if isinstance(value, memoryview) else value), name


def test_a5_75_a_sensitive_streaming_response_is_replayed_without_its_body(alice: Caller) -> None:
    key = new_key()
    with scripted(streaming) as script:
        first = alice.post("/withheld/", key=key)
        assert b"".join(first) == b"first second"
        first.close()
        again = alice.post("/withheld/", key=key)
    assert (again.status_code, again.content, again["Location"], script.calls) == (200, b"", "/payments/7/", 1)

"""A12: what plain views and their middleware find as they are used to."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.test.utils import CaptureQueriesContext

from django_idempotency import Policy
from tests.callers import Caller, new_key
from tests.campaigns.sessions import atomic_requests
from tests.conformance.callers_plain import MIDDLEWARE, AsgiClient, log_in
from tests.conformance.views_databases import Moments
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_plain")

TOKEN = "t" * 32
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def alice(alice: Caller) -> Caller:
    return log_in(alice)


@pytest.fixture
def browser(alice: Caller) -> Client:
    """A client that CSRF protection reads the form of."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice.user)
    client.cookies["csrftoken"] = TOKEN
    return client


def upload(content: bytes = b"\x89PNG") -> SimpleUploadedFile:
    return SimpleUploadedFile("scan.png", content, "image/png")


def send_form(browser: Client, kind: str, **fields: Any) -> Any:
    data = {"csrfmiddlewaretoken": TOKEN, "amount": "3", **fields}
    if kind == "multipart":
        return browser.post("/form/", {"scan": upload(), **data})
    return browser.post("/form/", "&".join(f"{name}={value}" for name, value in data.items()), content_type=FORM)


@pytest.mark.parametrize("kind", ["multipart", "urlencoded"])
def test_a12_135_a_form_is_still_readable_after_its_fingerprint_was_taken(browser: Client, kind: str) -> None:
    key = new_key()
    first, again = (send_form(browser, kind, key=key) for _ in range(2))
    assert (first.status_code, first.json()["fields"]) == (200, ["amount", "key"])
    assert first.json()["files"] == ({"scan": 4} if kind == "multipart" else {})
    assert (again.content, again["Idempotent-Replayed"], rows()) == (first.content, "true", (1, 1))


@pytest.mark.parametrize("content_type", [MULTIPART_CONTENT, FORM])
def test_a12_135_the_bytes_of_a_form_that_carries_its_key_are_still_readable(alice: Caller, content_type: str) -> None:
    key = new_key()
    body = encode_multipart(BOUNDARY, {"key": key}) if content_type == MULTIPART_CONTENT else f"key={key}".encode()
    answer = alice.post("/body/", body, content_type=content_type)
    assert (answer.status_code, answer.json()["length"], rows()) == (200, len(body), (1, 1))


@pytest.mark.postgresql
def test_a12_135_an_upload_is_read_from_its_beginning_by_another_attempt(alice: Caller, moments: Moments) -> None:
    def conflict() -> None:
        with connection.cursor() as cursor:
            cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001'; END $$")

    moments.once_at("after write", conflict)
    answer = alice.client.post("/retried-form/", {"key": new_key(), "scan": upload()})
    assert (answer.status_code, answer.json()["files"], rows()) == (200, {"scan": 4}, (1, 1))


def test_a12_133_an_asynchronous_view_finds_the_user_loaded(alice: Caller) -> None:
    log_in(alice, AsgiClient())
    with CaptureQueriesContext(connection) as queries:
        assert alice.post("/greet/", key=new_key()).content == b"alice"
    users = [query["sql"] for query in queries.captured_queries if 'FROM "auth_user"' in query["sql"]]
    assert len(users) == 1


@pytest.mark.parametrize("path", ["/unavailable/", "/missing/", "/broken/"])
def test_a8_104_what_is_not_kept_is_rolled_back_beside_a_store_that_is_elsewhere(
    alice: Caller, path: str, settings: Any
) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}}
    with atomic_requests(True):
        assert alice.post(path, key=new_key()).status_code >= 400
    assert rows() == (0, 0)


@pytest.mark.parametrize("kind", ["multipart", "urlencoded"])
def test_a3_41_a_new_csrf_token_makes_no_other_form(browser: Client, kind: str) -> None:
    key = new_key()
    first = send_form(browser, kind, key=key)
    browser.cookies["csrftoken"] = "u" * 32
    again = send_form(browser, kind, key=key, csrfmiddlewaretoken="u" * 32)
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")


@pytest.mark.parametrize("other", [{"amount": "4"}, {"memo": "x"}, {"scan": upload(b"other")}, {"": "x"}])
def test_a3_29_another_form_is_refused(browser: Client, other: dict[str, Any]) -> None:
    key = new_key()
    assert send_form(browser, "multipart", key=key).status_code == 200
    assert (send_form(browser, "multipart", key=key, **other).status_code, rows()) == (422, (1, 1))


def test_a3_29_in_json_the_name_of_the_form_field_is_a_member_like_others(alice: Caller) -> None:
    key = new_key()
    answers = [alice.post("/form/", {"key": value}, key=key).status_code for value in ("a", "b")]
    assert answers == [200, 422]


@pytest.mark.parametrize("kind", ["multipart", "urlencoded"])
@pytest.mark.parametrize("key", ["", "not a uuid"])
def test_a1_9_a_malformed_key_in_a_form_is_refused(browser: Client, kind: str, key: str) -> None:
    refused = send_form(browser, kind, key=key)
    assert (refused.status_code, refused.json()["code"], rows()) == (400, "malformed-key", (0, 0))


def test_a1_7_two_keys_in_a_form_are_refused(alice: Caller) -> None:
    body = f"key={new_key()}&key={new_key()}"
    refused = alice.post("/form/", body, content_type=FORM)
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed-key")


def test_a1_14_the_header_goes_before_the_form(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/form/", f"key={key}", content_type=FORM)
    again = alice.post("/form/", f"key={new_key()}", content_type=FORM, key=key)
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a3_36_a_multipart_body_that_django_does_not_parse_counts_byte_by_byte(alice: Caller, method: str) -> None:
    path, key = {"PATCH": "/decorated-class/", "PUT": "/every-method/"}[method], new_key()
    bodies = [encode_multipart(BOUNDARY, {"amount": amount}) for amount in (3, 3, 4)]
    answers = [alice.send(method, path, body, key=key, content_type=MULTIPART_CONTENT) for body in bodies]
    assert [answer.status_code for answer in answers] == [201, 201, 422]
    assert rows() == (1, 1)


def test_a3_37_a_long_multipart_body_that_django_does_not_parse_is_hashed_too(alice: Caller, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    key = new_key()
    bodies = [encode_multipart(BOUNDARY, {"memo": memo * 2000}) for memo in "aab"]
    answers = [
        alice.send("PATCH", "/decorated-class/", body, key=key, content_type=MULTIPART_CONTENT) for body in bodies
    ]
    assert ([answer.status_code for answer in answers], rows()) == ([201, 201, 422], (1, 1))


@pytest.mark.parametrize("path", ["/long/", "/bare-long/"])
@pytest.mark.parametrize("encodings", [("identity", "gzip"), ("gzip", "identity")])
def test_a5_69_outcomes_are_kept_uncompressed(
    alice: Caller, path: str, encodings: tuple[str, str], settings: Any
) -> None:
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY_ENROLLED = {"bare-long": Policy()}
    key = new_key()
    answers = {encoding: alice.post(path, key=key, headers={"Accept-Encoding": encoding}) for encoding in encodings}
    assert "Content-Encoding" not in answers["identity"]
    assert answers["gzip"]["Content-Encoding"] == "gzip"
    assert gzip.decompress(answers["gzip"].content) == answers["identity"].content
    assert (answers[encodings[1]]["Idempotent-Replayed"], rows()) == ("true", (1, 1))


@pytest.mark.parametrize("client", [None, AsgiClient], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("path", ["/broken/", "/bare-broken/", "/abroken/"])
def test_a12_134_the_error_of_a_view_reaches_the_hooks_of_other_middleware(
    alice: Caller, path: str, client: Any, settings: Any
) -> None:
    notes = "tests.conformance.views_plain.ErrorNotes"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, notes, MIDDLEWARE]
    settings.IDEMPOTENCY_ENROLLED = {"bare-broken": Policy()}
    answer = log_in(alice, client and client()).post(path, key=new_key())
    assert (answer.status_code, answer.content) == (500, b"noted")


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    ("path", "has_key"),
    [("/optional/", False), ("/class/", False), ("/class/", True), ("/every-method/", False), ("/every-method/", True)],
)
def test_a8_104_without_protection_atomic_requests_means_what_it_says(
    alice: Caller, moments: Moments, path: str, atomic: bool, has_key: bool, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY_ENROLLED = {"class": Policy(methods=["PUT"] if has_key else ["POST"])}
    seen = []
    moments.at("before write", lambda: seen.append(connection.in_atomic_block))
    with atomic_requests(atomic):
        assert alice.post(path, key=new_key() if has_key else None).status_code == 201
    assert seen == [atomic]


@pytest.mark.parametrize("path", ["/drf/", "/bare/"])
def test_a12_133_a_drf_view_is_enrolled_where_the_policy_says_who_asks(alice: Caller, path: str, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY_ENROLLED = {"*": Policy(scope=lambda request: request.headers["Authorization"])}
    key = new_key()
    refused = [alice.post("/drf/", {"amount": "much"}, key=key) for _ in range(2)]
    assert [(answer.status_code, answer.has_header("Idempotent-Replayed")) for answer in refused] == [(400, False)] * 2
    first, again = (alice.post(path, {"amount": 3}, key=key) for _ in range(2))
    assert (first.status_code, again.status_code, again["Idempotent-Replayed"]) == (201, 201, "true")
    assert (again.content, rows()) == (first.content, (1, 1))

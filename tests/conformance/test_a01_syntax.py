"""A1: the header field, its syntax and its key."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_idempotency.core.keys import parse_key
from django_idempotency.exceptions import InvalidKey
from django_idempotency.models import Record
from django_idempotency.rest_framework import mixins
from tests.callers import Caller, new_key
from tests.conformance.views_requests import runs
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_requests")

VECTORS = Path(__file__).parents[1] / "vectors"
DRAFT_KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
UUID_1 = "c232ab00-9414-11ec-b3c8-9f6bdeced846"
UUID_7 = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    runs.clear()


def assert_replayed(first: Any, again: Any) -> None:
    """The second answer repeats the first, and only one of the two ran."""
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert (first.get("Idempotent-Replayed"), again.get("Idempotent-Replayed")) == (None, "true")
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (1, 1, 1)


def assert_both_ran(first: Any, second: Any) -> None:
    """Neither answer has to do with the other."""
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (2, 2, 2)


def assert_refused(response: Any, *, code: str = "malformed-key", status: int = 400) -> None:
    """The answer is this problem, and nothing has run or been kept."""
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == code
    assert_nothing_happened()


def assert_nothing_happened() -> None:
    assert (runs, Payment.objects.count(), Record.objects.count()) == ([], 0, 0)


def vectors(*names: str) -> list[Any]:
    """Return the vectors of these files, one test parameter each."""
    return [
        pytest.param(vector, id=f"{name}: {vector['name']}")
        for name in names
        for vector in json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
        if vector["header_type"] == "item"
    ]


STRING_VECTORS = vectors("string", "string-generated")
OTHER_VECTORS = vectors(
    "item", "binary", "boolean", "date", "display-string", "number", "token", "examples-and-large-items"
)


def send_lines(caller: Caller, lines: list[tuple[str, str]], path: str = "/any/") -> Any:
    """POST through ASGI, which alone can send two lines of one header; return status and body."""
    headers = [
        ("authorization", f"Token {caller.token.key}"),
        ("content-type", "application/json"),
        ("content-length", "2"),
        *lines,
    ]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }

    async def exchange() -> Any:
        application = ApplicationCommunicator(ASGIHandler(), scope)
        await application.send_input({"type": "http.request", "body": b"{}"})
        start = await application.receive_output(30)
        body = await application.receive_output(30)
        await application.wait(30)
        return start["status"], json.loads(body["body"])

    return async_to_sync(exchange)()


def test_a1_1_the_example_of_the_draft_is_accepted(alice: Caller) -> None:
    first = alice.post("/pay/", raw_key=f'"{DRAFT_KEY}"')
    assert_replayed(first, alice.post("/pay/", raw_key=f'"{DRAFT_KEY}"'))
    assert Record.objects.get().key == DRAFT_KEY


@pytest.mark.parametrize(("path", "key"), [("/pay/", DRAFT_KEY), ("/pay/", ULID), ("/any/", "k")])
@pytest.mark.parametrize("quoted_first", [True, False])
def test_a1_2_quoted_and_bare_forms_are_one_key(alice: Caller, path: str, key: str, quoted_first: bool) -> None:
    forms = (f'"{key}"', key) if quoted_first else (key, f'"{key}"')
    first, again = (alice.post(path, raw_key=form) for form in forms)
    assert_replayed(first, again)


@override_settings(IDEMPOTENCY_STRICT_SYNTAX=True)
def test_a1_3_strict_syntax_refuses_a_bare_key(alice: Caller) -> None:
    assert_refused(alice.post("/pay/", raw_key=DRAFT_KEY))
    assert alice.post("/pay/", raw_key=f'"{DRAFT_KEY}"').status_code == 201


def test_a1_4_quote_and_backslash_are_unescaped(alice: Caller) -> None:
    first = alice.post("/any/", raw_key=r'"a\"b\\c\\\"d"')
    assert Record.objects.get().key == 'a"b\\c\\"d'
    assert_replayed(first, alice.post("/any/", raw_key=r'"a\"b\\c\\\"d"'))


@pytest.mark.parametrize("raw_key", [r'"a\nb"', r'"a\tb"', r'"\a"', r'"\u0041"', r'"a\ "', r'"a\,b"', r"a\"b", r"a\\b"])
def test_a1_4_any_other_escape_is_refused(alice: Caller, raw_key: str) -> None:
    assert_refused(alice.post("/any/", raw_key=raw_key))


MALFORMED = {
    "unterminated": '"k',
    "unterminated after a backslash": '"k\\',
    "unterminated after an escaped quote": '"k\\"',
    "not begun": 'k"',
    "a quote alone": '"',
    "trailing text": '"k"x',
    "trailing text after a space": '"k" x',
    "two strings": '"k" "k"',
    "a space within a bare key": "k x",
    "single quotes": "'k'",
    "a single quote at its start": "'k",
    "typographic quotes": "“k”".encode().decode("latin-1"),
    "a tab in it": '"k\tk"',
    "a tab in a bare key": "k\tk",
    "a tab after it": '"k"\t',
    "a tab before it": '\t"k"',
    "a line feed in it": '"k\nk"',
    "a line feed after it": '"k"\n',
    "a line feed after a bare key": "k\n",
    "a null character": '"k\0"',
    "a null character in a bare key": "k\0",
    "an escape character": "k\x1b[31m",
    "a delete character": '"k\x7f"',
    "an umlaut": '"ü"',
    "an umlaut in a bare key": "ü",
    "UTF-8 bytes": '"ü"'.encode().decode("latin-1"),
    "a no-break space after it": '"k"\xa0',
    "a full-width digit": "１".encode().decode("latin-1"),
    "a parameter without name": '"k";',
    "a parameter with an empty name": '"k";=1',
    "a parameter in capitals": '"k";P=1',
    "a parameter without value": '"k";p=',
    "a space before the semicolon": '"k" ;p',
    "a comma after it": '"k",',
    "a comma before it": ',"k"',
    "a comma in a bare key": "k,k",
    "an inner list": '("k")',
    "a dictionary": 'k="k"',
}


@pytest.mark.parametrize("raw_key", MALFORMED.values(), ids=MALFORMED.keys())
def test_a1_5_a_malformed_field_is_refused(alice: Caller, raw_key: str) -> None:
    assert_refused(alice.post("/any/", raw_key=raw_key))


@hypothesis_settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    raw_key=st.text(st.characters(max_codepoint=255), max_size=300)
    | st.text(st.sampled_from('"\\;,=ak1 \t*'), max_size=12)
)
def test_a1_5_no_field_whatever_makes_a_server_error(alice: Caller, raw_key: str) -> None:
    runs.clear()
    Payment.objects.all().delete()
    Record.objects.all().delete()
    response = alice.post("/any/", raw_key=raw_key)
    if response.status_code == 201:
        assert Record.objects.get().key == parse_key(raw_key)
    else:
        assert_refused(response)


@pytest.mark.parametrize("vector", [*STRING_VECTORS, *OTHER_VECTORS])
def test_a1_6_the_vectors_of_structured_fields_hold(vector: dict[str, Any]) -> None:
    field_value = ", ".join(vector["raw"])
    if vector.get("must_fail") or not isinstance(vector["expected"][0], str):
        with pytest.raises(InvalidKey):
            parse_key(field_value, strict=True)
    else:
        assert parse_key(field_value, strict=True) == vector["expected"][0]


@pytest.mark.parametrize("vector", STRING_VECTORS)
def test_a1_6_the_vectors_of_strings_hold_where_bare_keys_are_let_in_too(vector: dict[str, Any]) -> None:
    field_value = ", ".join(vector["raw"])
    if vector.get("must_fail"):
        with pytest.raises(InvalidKey):
            parse_key(field_value)
    else:
        assert parse_key(field_value) == vector["expected"][0]


def test_a1_6_there_are_vectors_of_both_kinds() -> None:
    failing = [vector for parameter in STRING_VECTORS for vector in parameter.values if vector.get("must_fail")]
    assert (len(STRING_VECTORS), len(failing)) == (269, 169)


@pytest.mark.parametrize("raw_key", ['"a","b"', '"a", "b"', '"a","a"', "a,b", "a, a", '"a",b', 'a,"b"'])
def test_a1_7_two_field_lines_joined_by_wsgi_are_refused(alice: Caller, raw_key: str) -> None:
    assert_refused(alice.post("/any/", raw_key=raw_key))


def test_a1_7_a_comma_within_a_quoted_key_is_legal(alice: Caller) -> None:
    first = alice.post("/any/", raw_key='"a,b"')
    assert Record.objects.get().key == "a,b"
    assert_replayed(first, alice.post("/any/", raw_key='"a,b"'))


@pytest.mark.parametrize("lines", [('"a"', '"b"'), ('"a"', '"a"'), ("a", "b"), ('"a', 'b"'), ("a", "")])
def test_a1_7_two_field_lines_are_counted_under_asgi(alice: Caller, lines: tuple[str, str]) -> None:
    status, problem = send_lines(alice, [("idempotency-key", line) for line in lines])
    assert (status, problem["code"]) == (400, "malformed-key")
    assert_nothing_happened()


def test_a1_7_one_field_line_with_a_comma_is_one_key_under_asgi(alice: Caller) -> None:
    status, payment = send_lines(alice, [("idempotency-key", '"a,b"')])
    assert (status, payment["id"]) == (201, Payment.objects.get().pk)
    assert Record.objects.get().key == "a,b"


def test_a1_7_two_field_lines_of_an_alias_are_counted_under_asgi(alice: Caller) -> None:
    with override_settings(IDEMPOTENCY_HEADERS=("Idempotency-Key", "X-Idempotency-Key")):
        status, problem = send_lines(alice, [("x-idempotency-key", '"a'), ("x-idempotency-key", 'b"')])
    assert (status, problem["code"]) == (400, "malformed-key")
    assert_nothing_happened()


@pytest.mark.parametrize(
    "parameters",
    [
        ";p",
        ";p=1",
        "; p=1",
        ';p="text; with, all"',
        ";p=token/x:y",
        ";p=?0",
        ";p=:YQ==:",
        ";p=-1.5",
        ";p=@1659578233",
        ';p=%"f%c3%bc"',
        ";*a_-.*=1;b;b=2",
    ],
)
def test_a1_8_parameters_do_not_change_the_key(alice: Caller, parameters: str) -> None:
    first = alice.post("/any/", raw_key=f'"k"{parameters}')
    assert Record.objects.get().key == "k"
    assert_replayed(first, alice.post("/any/", raw_key='"k"'))


def test_a1_8_parameters_of_a_bare_key_are_ignored_too(alice: Caller) -> None:
    assert_replayed(alice.post("/any/", raw_key="k"), alice.post("/any/", raw_key="k;p=1"))


@pytest.mark.parametrize("path", ["/pay/", "/optional/", "/any/"])
@pytest.mark.parametrize("raw_key", ["", " ", '""', ' "" ', '"";p=1'])
def test_a1_9_an_empty_key_is_malformed_rather_than_missing(alice: Caller, path: str, raw_key: str) -> None:
    assert_refused(alice.post(path, raw_key=raw_key))


@pytest.mark.parametrize(
    ("raw_key", "key"), [("k", "k"), ("k" * 255, "k" * 255), (r'"' + r"\"" * 255 + '"', '"' * 255)]
)
def test_a1_10_keys_of_1_to_255_characters_are_accepted(alice: Caller, raw_key: str, key: str) -> None:
    first = alice.post("/any/", raw_key=raw_key)
    assert Record.objects.get().key == key
    assert_replayed(first, alice.post("/any/", raw_key=raw_key))


@pytest.mark.parametrize("raw_key", ["k" * 256, '"' + "k" * 256 + '"', r'"' + r"\\" * 256 + '"'])
def test_a1_10_a_key_of_256_characters_is_refused(alice: Caller, raw_key: str) -> None:
    assert_refused(alice.post("/any/", raw_key=raw_key))


@pytest.mark.parametrize("unit", ["k", r"\"", '"k";a=1', ";a", "\\", " ", ","])
def test_a1_10_a_field_of_a_megabyte_is_refused_without_hashing(
    alice: Caller, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    monkeypatch.setattr(mixins, "build_operation", lambda *args, **kwargs: built.append(args))
    for start in ("", '"', '"k"'):
        assert_refused(alice.post("/any/", raw_key=start + unit * (1_000_000 // len(unit))))
    assert built == []


@pytest.mark.parametrize(
    ("path", "one", "other"), [("/any/", "key", "KEY"), ("/any/", "k", "k."), ("/pay/", UUID_7, UUID_7.upper())]
)
def test_a1_11_keys_compare_byte_by_byte(alice: Caller, path: str, one: str, other: str) -> None:
    first = alice.post(path, key=one)
    second = alice.post(path, key=other)
    assert_both_ran(first, second)
    assert alice.post(path, key=one).content == first.content
    assert alice.post(path, key=other).content == second.content


@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        ("/pay/", {DRAFT_KEY, UUID_7, ULID}),
        ("/uuid/", {DRAFT_KEY, UUID_7, UUID_1}),
        ("/ulid/", {ULID}),
        ("/any/", {DRAFT_KEY, UUID_7, UUID_1, ULID, "INV-7", "!~", DRAFT_KEY + "0", "8" + ULID[1:]}),
        ("/invoices/", {"INV-7"}),
    ],
)
def test_a1_12_the_key_format_is_a_policy(alice: Caller, path: str, accepted: set[str]) -> None:
    odd = {f"{{{DRAFT_KEY}}}", DRAFT_KEY.replace("-", ""), "two words", DRAFT_KEY + " "}
    others = {UUID_1, "INV-7", "INV-", "!~", DRAFT_KEY + "0", "8" + ULID[1:], ULID[:-1], *odd}
    keys = {DRAFT_KEY, UUID_7, ULID} | others
    statuses = {key: alice.post(path, key=key).status_code for key in keys}
    visible_ascii = keys - {"two words", DRAFT_KEY + " "} if path == "/any/" else set()
    assert {key for key, status in statuses.items() if status == 201} == accepted | visible_ascii
    assert {status for key, status in statuses.items() if key not in accepted | visible_ascii} <= {400}
    assert len(runs) == Payment.objects.count() == Record.objects.count() == len(accepted | visible_ascii)


def test_a1_12_the_project_sets_the_format_where_a_policy_does_not(alice: Caller) -> None:
    with override_settings(IDEMPOTENCY_KEY_FORMAT="ulid"):
        assert_refused(alice.post("/pay/", key=DRAFT_KEY))
        assert alice.post("/pay/", key=ULID).status_code == 201
        assert alice.post("/uuid/", key=DRAFT_KEY).status_code == 201
    with override_settings(IDEMPOTENCY_KEY_FORMAT=lambda key: key == "mine"):
        assert alice.post("/pay/", key="mine").status_code == 201
        assert alice.post("/pay/", key=new_key()).status_code == 400


def test_a1_13_look_up_is_by_sha_256_over_length_prefixed_scope_and_key(alice: Caller) -> None:
    key = new_key()
    alice.post("/pay/", key=key)
    parts = ("django-idempotency key 1", "POST pay", key, f"auth.user:{alice.user.pk}")
    content = b"".join(len(part).to_bytes(8, "big") + part.encode() for part in parts)
    assert bytes(Record.objects.get().digest) == hashlib.sha256(content).digest()


def test_a1_13_a_rotated_secret_does_not_make_a_live_key_unknown(alice: Caller) -> None:
    key = new_key()
    with override_settings(IDEMPOTENCY_SECRETS=("old",)):
        alice.post("/pay/", key=key)
    with override_settings(IDEMPOTENCY_SECRETS=("new",)):
        assert alice.post("/pay/", key=key).status_code == 409
    assert len(runs) == Record.objects.count() == 1


def test_a1_13_the_raw_key_is_kept_beside_the_digest_unless_told_otherwise(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/pay/", key=key)
    assert Record.objects.get().key == key
    with override_settings(IDEMPOTENCY_STORE_KEYS="digest"):
        assert_replayed(first, alice.post("/pay/", key=key))


@override_settings(IDEMPOTENCY_STORE_KEYS="digest")
def test_a1_13_the_store_keeps_no_raw_key_where_told_so(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/pay/", key=key)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {Record._meta.db_table}")
        row = [bytes(value) if isinstance(value, memoryview | bytes) else value for value in cursor.fetchone()]
    assert key not in repr(row)
    assert key.encode() not in b"".join(value for value in row if isinstance(value, bytes))
    assert_replayed(first, alice.post("/pay/", key=key))


def test_a1_13_no_problem_and_no_log_line_carries_a_raw_key(alice: Caller, caplog: pytest.LogCaptureFixture) -> None:
    key, malformed = new_key(), f"not-a-key-{uuid.uuid4()}"
    with caplog.at_level(logging.DEBUG), CaptureQueriesContext(connection) as queries:
        answers = [
            alice.post("/pay/", key=malformed),
            alice.post("/pay/", raw_key=f'"{malformed}'),
            alice.post("/pay/", {"amount": 1}, key=key),
            alice.post("/pay/", {"amount": 1}, key=key),
            alice.post("/pay/", {"amount": 2}, key=key),
        ]
        with override_settings(IDEMPOTENCY_SECRETS=("another",)):
            answers.append(alice.post("/pay/", {"amount": 1}, key=key))
    assert [answer.status_code for answer in answers] == [400, 400, 201, 201, 422, 409]
    said = "".join(str(answer.headers) + answer.content.decode() for answer in answers)
    logged = caplog.text + "".join(repr(vars(record)) for record in caplog.records if record.name != "django.request")
    sql = "".join(query["sql"] for query in queries.captured_queries)
    assert Record._meta.db_table in sql
    for text in (said, logged, sql):
        assert key not in text
        assert malformed not in text


ALIASES = override_settings(IDEMPOTENCY_HEADERS=("Idempotency-Key", "X-Idempotency-Key", "PayPal-Request-Id"))


@ALIASES
@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Idempotency-Key", "PayPal-Request-Id", "x-idempotency-KEY"])
def test_a1_14_every_alias_names_the_same_key(alice: Caller, name: str) -> None:
    key = new_key()
    first = alice.post("/pay/", headers={name: key})
    assert_replayed(first, alice.post("/pay/", key=key))


@ALIASES
def test_a1_14_aliases_that_agree_are_one_key(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/pay/", key=key, headers={"X-Idempotency-Key": key})
    assert_replayed(first, alice.post("/pay/", headers={"PayPal-Request-Id": key}))


@ALIASES
@pytest.mark.parametrize("other", [DRAFT_KEY, "", '"', f'"{UUID_7}", "{UUID_7}"'])
def test_a1_14_aliases_that_disagree_are_refused(alice: Caller, other: str) -> None:
    assert_refused(alice.post("/pay/", key=UUID_7, headers={"X-Idempotency-Key": other}))


@override_settings(IDEMPOTENCY_HEADERS=("X-Idempotency-Key",))
def test_a1_14_a_name_that_is_not_configured_carries_no_key(alice: Caller) -> None:
    assert_refused(alice.post("/pay/", key=new_key()), code="missing-key")


def test_a1_15_a_missing_key_is_refused_where_it_is_required(alice: Caller) -> None:
    response = alice.post("/pay/")
    assert_refused(response, code="missing-key")
    problem = response.json()
    assert (problem["title"], problem["retryable"]) == ("Idempotency-Key is missing", False)
    assert f'<{problem["type"]}>; rel="describedby"' in response["Link"]
    assert "Retry-After" not in response
    explained = alice.client.get(problem["type"])
    assert explained.status_code == 200
    assert "Idempotency-Key is missing" in explained.content.decode()


def test_a1_15_without_a_key_an_optional_view_runs_each_time_and_says_so(alice: Caller) -> None:
    first, second = alice.post("/optional/"), alice.post("/optional/")
    assert (first.status_code, second.status_code) == (201, 201)
    assert (first["Idempotency-Status"], second["Idempotency-Status"]) == ("unprotected", "unprotected")
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (2, 2, 0)


def test_a1_15_with_a_key_an_optional_view_is_protected(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/optional/", key=key)
    assert "Idempotency-Status" not in first
    assert_replayed(first, alice.post("/optional/", key=key))


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/every-method/"), ("DELETE", "/every-method/"), ("POST", "/unenrolled/")]
)
def test_a1_16_a_key_on_what_is_not_enrolled_is_ignored_and_that_is_said(alice: Caller, method: str, path: str) -> None:
    key = new_key()
    answers = [alice.send(method, path, key=key), alice.send(method, path, raw_key='"malformed')]
    assert [(answer.status_code, answer["Idempotency-Status"]) for answer in answers] == [(201, "ignored")] * 2
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (2, 2, 0)
    assert "Idempotency-Status" not in alice.send(method, path)


@override_settings(IDEMPOTENCY_UNENROLLED="refuse")
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/every-method/"), ("DELETE", "/every-method/"), ("POST", "/unenrolled/")]
)
def test_a1_16_a_key_on_what_is_not_enrolled_is_refused_where_told_so(alice: Caller, method: str, path: str) -> None:
    assert_refused(alice.send(method, path, key=new_key()), code="not-supported", status=501)
    assert alice.send(method, path).status_code == 201


@override_settings(IDEMPOTENCY_UNENROLLED="refuse")
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a1_16_a_key_on_a_safe_method_is_never_refused(alice: Caller, method: str) -> None:
    assert alice.send(method, "/every-method/", key=new_key()).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a1_17_post_and_patch_are_enrolled_by_default(alice: Caller, method: str) -> None:
    key = new_key()
    first = alice.send(method, "/every-method/", key=key)
    assert_replayed(first, alice.send(method, "/every-method/", key=key))


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a1_17_put_and_delete_are_enrolled_where_the_policy_says_so(alice: Caller, method: str) -> None:
    key = new_key()
    first = alice.send(method, "/opted-in/", key=key)
    assert_replayed(first, alice.send(method, "/opted-in/", key=key))


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a1_17_put_and_delete_are_not_enrolled_by_default(alice: Caller, method: str) -> None:
    key = new_key()
    assert [alice.send(method, "/every-method/", key=key).status_code for _ in range(2)] == [201, 201]
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (2, 2, 0)


def test_a1_17_methods_left_out_of_the_policy_are_not_enrolled(alice: Caller) -> None:
    assert alice.send("POST", "/opted-in/", key=new_key())["Idempotency-Status"] == "ignored"
    assert Record.objects.count() == 0


@pytest.mark.parametrize("path", ["/every-method/", "/opted-in/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("raw_key", [DRAFT_KEY, '"malformed', ""])
def test_a1_17_reads_are_never_kept_and_their_key_is_harmless(
    alice: Caller, method: str, path: str, raw_key: str
) -> None:
    before = alice.send(method, path, raw_key=raw_key)
    Payment.objects.create(amount=1)
    after = alice.send(method, path, raw_key=raw_key)
    assert (before.status_code, after.status_code) == (200, 200)
    assert (before["Idempotency-Status"], after["Idempotency-Status"]) == ("ignored", "ignored")
    if method == "GET":
        assert (before.json(), after.json()) == ({"payments": 0}, {"payments": 1})
    assert Record.objects.count() == 0


BAD_BODIES = {
    "broken JSON": (b'{"amount": ', "application/json", 400),
    "JSON nested beyond any parser": (b"[" * 100_000, "application/json", 400),
    "JSON of broken UTF-8": (b'{"a": "\xff"}', "application/json", 400),
    "NaN": (b'{"a": NaN}', "application/json", 400),
    "a type without a parser": (b"<a/>", "text/xml", 415),
    "no type that parses": (b"{}", ";;;/=,", 415),
    "a form without its boundary": (b"--x--", "multipart/form-data", 400),
    "a form with a boundary it does not use": (b"text", "multipart/form-data; boundary=other", 201),
    "a form that is cut off": (
        b'--x\r\nContent-Disposition: form-data; name="a"',
        "multipart/form-data; boundary=x",
        201,
    ),
}


@pytest.mark.parametrize(
    "raw_key", [f'"{DRAFT_KEY}"', '"malformed', '"a","b"', ""], ids=["valid", "open", "two", "empty"]
)
@pytest.mark.parametrize(("body", "content_type", "status"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a1_5_bad_input_is_never_a_server_error_and_never_a_row(
    alice: Caller, raw_key: str, body: bytes, content_type: str, status: int
) -> None:
    response = alice.post("/pay/", body, raw_key=raw_key, content_type=content_type)
    if status == 201 and DRAFT_KEY in raw_key:
        assert response.status_code == 201  # Django reads such a form as an empty one
        return
    assert response.status_code == (status if DRAFT_KEY in raw_key else 400)
    assert (Payment.objects.count(), Record.objects.count()) == (0, 0)

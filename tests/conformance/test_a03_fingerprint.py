"""A3: is this the same request as before?"""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import AsyncClient, Client, override_settings

from django_idempotency.core import fingerprints
from django_idempotency.core.records import Operation
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.conformance.views_requests import Gate, GateView, runs
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_requests")

FORM = "application/x-www-form-urlencoded"
Send = Callable[[], Any]


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    runs.clear()


def assert_same_request(first: Any, again: Any) -> None:
    """The second answer replays the first."""
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (1, 1, 1)


def assert_other_request(first: Any, other: Any) -> None:
    """The second request is refused and has not run."""
    assert (first.status_code, other.status_code) == (201, 422)
    assert (other["Content-Type"], other.json()["code"]) == ("application/problem+json", "key-reused")
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (1, 1, 1)


def send_both(
    caller: Caller, path: str, one: str | bytes, other: str | bytes, content_type: str = "application/json"
) -> tuple[Any, Any]:
    """Send two bodies under one key."""
    key = new_key()
    return tuple(caller.post(path, body, key=key, content_type=content_type) for body in (one, other))  # type: ignore[return-value]


def multipart(*parts: tuple[str, str | None, str, bytes], boundary: str = "b0undary") -> tuple[bytes, str]:
    """Return body and media type of a form of parts: name, file name, media type, content."""
    lines = []
    for name, filename, media_type, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        described = f"\r\nContent-Type: {media_type}" if media_type else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}{described}\r\n\r\n'
        lines.append(head.encode() + content + b"\r\n")
    return b"".join(lines) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def send_forms(caller: Caller, path: str, *forms: tuple[bytes, str]) -> list[Any]:
    key = new_key()
    return [caller.post(path, body, key=key, content_type=content_type) for body, content_type in forms]


class AsyncCaller:
    """Sends the requests of a Caller through ASGI."""

    def __init__(self) -> None:
        self._client = AsyncClient(raise_request_exception=False)

    @async_to_sync
    async def generic(self, *args: Any, **options: Any) -> Any:
        return await self._client.generic(*args, **options)


AMOUNT = ("amount", None, "", b"1")
FILE = ("scan", "scan.png", "image/png", b"\x89PNG\x00\xff")


def test_a3_29_another_body_is_refused_and_does_not_run(alice: Caller) -> None:
    assert_other_request(*send_both(alice, "/pay/", '{"amount": 1}', '{"amount": 2}'))


@pytest.mark.parametrize("other", ["{}", "", "[]", '{"amount": 1, "b": 2}', '{"amount": [1]}', '[{"amount": 1}]'])
def test_a3_29_a_body_that_says_more_or_less_is_another_one(alice: Caller, other: str) -> None:
    assert_other_request(*send_both(alice, "/pay/", '{"amount": 1}', other))


def test_a3_29_the_first_outcome_is_still_replayed_after_a_mismatch(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/pay/", {"amount": 1}, key=key)
    assert alice.post("/pay/", {"amount": 2}, key=key).status_code == 422
    assert_same_request(first, alice.post("/pay/", {"amount": 1}, key=key))


@contextmanager
def in_flight(caller: Caller, key: str, body: dict[str, Any]) -> Iterator[Future[Any]]:
    """Hold a request at the gate within its transaction, then let it go on."""
    GateView.gate = gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        try:
            future = pool.submit(send_from_thread, caller, key, body)
            assert gate.reached.wait(30)
            yield future
        finally:
            gate.opened.set()
            GateView.gate = None


def send_from_thread(caller: Caller, key: str, body: dict[str, Any]) -> Any:
    own = copy.copy(caller)
    own.client = Client(raise_request_exception=False)
    try:
        return own.post("/gate/", body, key=key)
    finally:
        connections.close_all()


@pytest.mark.postgresql
def test_a3_30_a_mismatch_is_refused_as_such_while_the_first_is_in_flight(alice: Caller, bob: Caller) -> None:
    key = new_key()
    with in_flight(alice, key, {"amount": 1}) as first:
        same = alice.post("/gate/", {"amount": 1}, key=key)
        other = alice.post("/gate/", {"amount": 2}, key=key)
        GateView.gate = None  # what is free to run does not stop
        foreign = bob.post("/gate/", {"amount": 2}, key=key)
        assert not first.done()
        assert Record.objects.filter(scope=f"auth.user:{alice.user.pk}").count() == 0
    assert (same.status_code, same.json()["code"], same["Retry-After"]) == (409, "in-progress", "1")
    assert (other.status_code, other.json()["code"]) == (422, "key-reused")
    assert "Retry-After" not in other
    assert (foreign.status_code, first.result().status_code) == (201, 201)
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (2, 2, 2)
    assert alice.post("/gate/", {"amount": 1}, key=key).content == first.result().content
    assert alice.post("/gate/", {"amount": 2}, key=key).content == other.content


def test_a3_31_member_order_and_white_space_do_not_matter(alice: Caller) -> None:
    one = '{"a":1,"b":{"c":[1,2],"d":"x y"}}'
    other = ' {\r\n\t"b" : { "d": "x y", "c": [ 1 , 2 ] },\n "a" : 1 }\n'
    assert_same_request(*send_both(alice, "/pay/", one, other))


def test_a3_31_nor_does_the_escaping_of_strings(alice: Caller) -> None:
    assert_same_request(*send_both(alice, "/pay/", '{"é": "😀/"}', r'{"\u00e9": "\ud83d\ude00\/"}'))


@pytest.mark.parametrize(
    ("one", "other"), [('"x y"', '"xy"'), ('"x y"', '"x  y"'), ('"x"', '"X"'), ('""', '" "'), ('"\\n"', '"n"')]
)
def test_a3_31_white_space_within_strings_matters(alice: Caller, one: str, other: str) -> None:
    assert_other_request(*send_both(alice, "/pay/", f'{{"a": {one}}}', f'{{"a": {other}}}'))


@pytest.mark.parametrize(
    "numbers",
    [("1", "1.0"), ("1", "1e0"), ("1.0", "10E-1"), ("100", "1e+2"), ("0", "-0"), ("0", "0e9"), ("0.10", "1e-1")],
)
def test_a3_32_spellings_of_one_number_are_equal(alice: Caller, numbers: tuple[str, str]) -> None:
    assert_same_request(*send_both(alice, "/pay/", *(f'{{"amount": {number}}}' for number in numbers)))


@pytest.mark.parametrize(
    "numbers",
    [
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.10000000000000000001"),
        ("1e400", "1e401"),
        ("1e-400", "0"),
        ("-1", "1"),
        ("1", "true"),
        ("0", "false"),
        ("1", '"1"'),
        ("1" + "0" * 5000, "1" + "0" * 4999 + "1"),
        ("1e9999999999999999999", "1e9999999999999999998"),
    ],
)
def test_a3_32_numbers_are_compared_exactly(alice: Caller, numbers: tuple[str, str]) -> None:
    first, other = send_both(alice, "/raw/", *(f'{{"amount": {number}}}' for number in numbers))
    assert_other_request(first, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": null}', "{}"),
        ('{"a": null}', '{"a": ""}'),
        ('{"a": null}', '{"a": 0}'),
        ('{"a": null}', '{"a": "null"}'),
        ('{"a": []}', '{"a": {}}'),
        ('{"a": [[], []]}', '{"a": [[]]}'),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ("[[1], 2]", "[1, [2]]"),
        ('{"a": {"b": 1}}', '{"a": {}, "b": 1}'),
        ('[["a", 1]]', '{"a": 1}'),
    ],
)
def test_a3_33_null_absence_and_array_order_matter(alice: Caller, one: str, other: str) -> None:
    assert_other_request(*send_both(alice, "/pay/", one, other))


WITHOUT_CANONICAL_FORM = {
    "duplicate members": (b'{"a":1,"a":2}', b'{"a":2}'),
    "duplicate members in another order": (b'{"a":1,"a":2}', b'{"a":2,"a":1}'),
    "duplicate members, one of them escaped": (b'{"a":1,"\\u0061":2}', b'{"a":2}'),
    "equal duplicate members": (b'{"a":1,"a":1}', b'{"a":1}'),
    "duplicate members deep within": (b'[{"b":{"a":1,"a":2}}]', b'[{"b":{"a":2}}]'),
    "duplicate members with white space": (b'{"a":1,"a":2}', b'{"a":1, "a":2}'),
    "NaN": (b'{"a":NaN}', b'{"a":NaN }'),
    "NaN or null": (b'{"a":NaN}', b'{"a":null}'),
    "infinities": (b'{"a":Infinity}', b'{"a":-Infinity}'),
    "broken UTF-8": (b'{"a":"\xff"}', b'{"a":"\xfe"}'),
    "overlong UTF-8": (b'{"a":"\xc0\xaf"}', b'{"a":"/"}'),
    "a surrogate in UTF-8": (b'{"a":"\xed\xa0\x80"}', b'{"a":"\\ud800"}'),
    "a byte order mark": (b'\xef\xbb\xbf{"a":1}', b'{"a":1}'),
    "UTF-16": ('{"a":1}'.encode("utf-16-le"), b'{"a":1}'),
    "broken JSON": (b'{"a":1', b'{"a":1 '),
    "a trailing comma": (b'{"a":1,}', b'{"a":1}'),
    "single quotes": (b"{'a':1}", b'{"a":1}'),
    "nothing": (b"", b" "),
}


@pytest.mark.parametrize(("one", "other"), WITHOUT_CANONICAL_FORM.values(), ids=WITHOUT_CANONICAL_FORM.keys())
def test_a3_34_json_without_a_single_meaning_counts_byte_by_byte(alice: Caller, one: bytes, other: bytes) -> None:
    key = new_key()
    first = alice.post("/raw/", one, key=key)
    assert_other_request(first, alice.post("/raw/", other, key=key))
    assert_same_request(first, alice.post("/raw/", one, key=key))


def test_a3_34_json_that_only_looks_the_same_to_the_last_member_is_not_replayed(alice: Caller) -> None:
    assert_other_request(*send_both(alice, "/pay/", '{"amount":1,"amount":2}', '{"amount":2}'))


@pytest.mark.parametrize("depth", [100_000, 1_000_000])
@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'[{"a":'])
def test_a3_34_json_nested_beyond_the_parser_is_refused(alice: Caller, depth: int, unit: bytes) -> None:
    response = alice.post("/pay/", unit * (depth // len(unit)), key=new_key())
    assert response.status_code == 400
    assert (runs, Payment.objects.count(), Record.objects.count()) == ([], 0, 0)


def test_a3_35_strings_are_not_normalised(alice: Caller) -> None:
    assert_other_request(*send_both(alice, "/pay/", '{"a": "\u00e9"}', '{"a": "e\u0301"}'))


def test_a3_35_nor_are_member_names(alice: Caller) -> None:
    assert_other_request(*send_both(alice, "/pay/", '{"\u00e9": 1}', '{"e\u0301": 1}'))


def test_a3_35_nor_are_fields_of_forms(alice: Caller) -> None:
    assert_other_request(*send_both(alice, "/pay/", "a=%C3%A9", "a=e%CC%81", FORM))


def test_a3_36_multipart_boundary_does_not_matter(alice: Caller) -> None:
    parts = (AMOUNT, FILE)
    first, again = send_forms(alice, "/upload/", multipart(*parts), multipart(*parts, boundary="another"))
    assert_same_request(first, again)
    assert first.json()["files"] == {"scan": hashlib.sha256(FILE[3]).hexdigest()}


def test_a3_36_order_of_parts_of_different_names_does_not_matter(alice: Caller) -> None:
    forms = (multipart(AMOUNT, FILE), multipart(FILE, AMOUNT))
    assert_same_request(*send_forms(alice, "/upload/", *forms))


OTHER_PARTS = {
    "a changed byte of the file": [AMOUNT, ("scan", "scan.png", "image/png", b"\x89PNG\x00\xfe")],
    "a file of the same size": [AMOUNT, ("scan", "scan.png", "image/png", b"\x89PNG\xff\x00")],
    "another file name": [AMOUNT, ("scan", "copy.png", "image/png", FILE[3])],
    "another type": [AMOUNT, ("scan", "scan.png", "image/gif", FILE[3])],
    "another name": [AMOUNT, ("copy", "scan.png", "image/png", FILE[3])],
    "another field": [("amount", None, "", b"2"), FILE],
    "a field less": [FILE],
    "a file less": [AMOUNT],
    "a file twice": [AMOUNT, FILE, FILE],
    "a field twice": [AMOUNT, AMOUNT, FILE],
    "a file in place of a field": [("amount", "amount.txt", "text/plain", b"1"), FILE],
    "a field in place of a file": [AMOUNT, ("scan", None, "", FILE[3])],
}


@pytest.mark.parametrize("other", OTHER_PARTS.values(), ids=OTHER_PARTS.keys())
def test_a3_36_a_form_of_other_parts_is_another_request(alice: Caller, other: list[Any]) -> None:
    assert_other_request(*send_forms(alice, "/upload/", multipart(AMOUNT, FILE), multipart(*other)))


def test_a3_36_order_of_parts_of_one_name_matters(alice: Caller) -> None:
    one, other = ("scan", "1.png", "image/png", b"1"), ("scan", "2.png", "image/png", b"2")
    assert_other_request(*send_forms(alice, "/upload/", multipart(one, other), multipart(other, one)))


def test_a3_36_parts_cannot_run_into_each_other(alice: Caller) -> None:
    forms = (multipart(("a", None, "", b"bc"), FILE), multipart(("ab", None, "", b"c"), FILE))
    assert_other_request(*send_forms(alice, "/upload/", *forms))


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "latin-1", "base64", "no-such"])
def test_a3_36_no_charset_of_a_form_makes_a_server_error(alice: Caller, charset: str) -> None:
    """UTF-7 can spell a lone surrogate, which no other encoding takes."""
    one, other = (
        multipart(("a+2AA-", None, "", text), ("scan", "+2AA-", "text/plain", text)) for text in (b"+2AA-", b"+2AE-")
    )
    key = new_key()
    forms = [(body, f"{content_type}; charset={charset}") for body, content_type in (one, one, other)]
    first, again, changed = [alice.post("/pay/", body, key=key, content_type=kind) for body, kind in forms]
    assert first.status_code == again.status_code in (201, 400)
    if first.status_code == 201:
        assert_same_request(first, again)
        assert_other_request(first, changed)
    else:
        assert (runs, Payment.objects.count(), Record.objects.count()) == ([], 0, 0)


def test_a3_36_a_form_that_the_view_parses_in_its_own_way_is_protected(alice: Caller) -> None:
    forms = (multipart(AMOUNT, FILE), multipart(AMOUNT, FILE), multipart(("amount", None, "", b"2"), FILE))
    first, again, other = send_forms(alice, "/dict/", *forms)
    assert first.json()["names"] == ["amount", "scan"]
    assert_same_request(first, again)
    assert_other_request(first, other)


def test_a3_36_a_form_taken_as_one_file_is_protected(alice: Caller) -> None:
    forms = (multipart(AMOUNT, FILE), multipart(AMOUNT, FILE), multipart(AMOUNT))
    key = new_key()
    first, again, other = (
        alice.post(
            "/file/",
            body,
            key=key,
            content_type=content_type,
            headers={"Content-Disposition": 'attachment; filename="form.bin"'},
        )
        for body, content_type in forms
    )
    assert first.json()["file"] == hashlib.sha256(forms[0][0]).hexdigest()
    assert_same_request(first, again)
    assert_other_request(first, other)


SMALL_BUFFER = override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000, FILE_UPLOAD_MAX_MEMORY_SIZE=1000)
LONG = bytes(range(256)) * 400
LONG_JSON = json.dumps({"text": "x" * 100_000}).encode()


def changed(content: bytes) -> bytes:
    """Return the content with its last byte but ten changed."""
    return content[:-10] + bytes([content[-10] ^ 1]) + content[-9:]


@SMALL_BUFFER
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (LONG, "application/octet-stream"),
        (LONG, ""),
        (LONG_JSON, "application/json"),
        (LONG_JSON, "application/merge-patch+json"),
        (b"a=1&b=" + b"x" * 100_000, FORM),
    ],
    ids=["octets", "no type", "JSON", "a kind of JSON", "form"],
)
def test_a3_37_a_body_beyond_the_buffer_is_hashed_and_still_readable(
    alice: Caller, body: bytes, content_type: str
) -> None:
    key = new_key()
    first = alice.post("/raw/", body, key=key, content_type=content_type)
    assert first.json()["length"] == len(body)
    assert first.json()["sha256"] == hashlib.sha256(body).hexdigest()
    assert_other_request(first, alice.post("/raw/", changed(body), key=key, content_type=content_type))
    assert_other_request(first, alice.post("/raw/", body[:-1], key=key, content_type=content_type))
    assert_same_request(first, alice.post("/raw/", body, key=key, content_type=content_type))


@SMALL_BUFFER
@pytest.mark.parametrize("content_type", ["application/json", FORM])
def test_a3_37_a_parser_makes_of_a_body_beyond_the_buffer_what_it_makes_without_a_key(
    alice: Caller, content_type: str
) -> None:
    body = LONG_JSON if content_type == "application/json" else b"a=" + LONG_JSON
    plain = alice.post("/optional/", body, content_type=content_type)
    protected = alice.post("/optional/", body, key=new_key(), content_type=content_type)
    assert protected.status_code == plain.status_code < 500  # REST framework 3.18 refuses what older ones parse
    assert Payment.objects.count() == [plain.status_code, protected.status_code].count(201)
    assert Record.objects.count() == [protected.status_code].count(201)


@SMALL_BUFFER
def test_a3_37_an_upload_beyond_the_buffer_is_hashed_and_still_readable(alice: Caller) -> None:
    file, other_file = (("scan", "scan.png", "image/png", content) for content in (LONG, changed(LONG)))
    forms = (multipart(AMOUNT, file), multipart(AMOUNT, other_file), multipart(AMOUNT, file, boundary="another"))
    first, other, again = send_forms(alice, "/upload/", *forms)
    assert first.json()["files"] == {"scan": hashlib.sha256(LONG).hexdigest()}
    assert first.json()["fields"] == {"amount": "1"}
    assert_other_request(first, other)
    assert_same_request(first, again)


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000)
def test_a3_37_a_form_beyond_the_buffer_that_the_view_parses_in_its_own_way_is_protected(alice: Caller) -> None:
    file, other_file = (("scan", "scan.png", "image/png", content) for content in (LONG, changed(LONG)))
    forms = (multipart(AMOUNT, file), multipart(AMOUNT, file), multipart(AMOUNT, other_file))
    first, again, other = send_forms(alice, "/dict/", *forms)
    assert_same_request(first, again)
    assert_other_request(first, other)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"a": "' + b"x" * 3_000_000, "application/json"),
        (b"\xff" * 3_000_000, "application/json"),
        (b"a&" * 1_500_000, FORM),
        (b"x" * 3_000_000, "multipart/form-data"),
        (b"x" * 3_000_000, "application/octet-stream"),
        (b"x" * 3_000_000, "no/such; type=\x00"),
    ],
    ids=["open JSON", "JSON of broken UTF-8", "form", "no boundary", "octets", "unknown type"],
)
def test_a3_37_a_huge_bad_body_is_refused_and_leaves_no_row(alice: Caller, body: bytes, content_type: str) -> None:
    response = alice.post("/pay/", body, key=new_key(), content_type=content_type)
    assert 400 <= response.status_code < 500
    assert (Payment.objects.count(), Record.objects.count()) == (0, 0)


@SMALL_BUFFER
@pytest.mark.parametrize("length", [999, 1000, 1001])
def test_a3_37_nothing_slips_through_at_the_edge_of_the_buffer(alice: Caller, length: int) -> None:
    body = LONG[:length]
    first, other = send_both(alice, "/raw/", body, changed(body), "application/octet-stream")
    assert first.json()["sha256"] == hashlib.sha256(body).hexdigest()
    assert_other_request(first, other)


@pytest.mark.parametrize("limit", [None, 0])
def test_a3_37_a_limit_of_none_or_nothing_is_taken_at_its_word(alice: Caller, limit: int | None) -> None:
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=limit):
        first, other = send_both(alice, "/raw/", LONG, changed(LONG), "application/octet-stream")
    assert first.json()["sha256"] == hashlib.sha256(LONG).hexdigest()
    assert_other_request(first, other)


@pytest.mark.parametrize(
    ("body", "content_type", "read"),
    [
        (b'{"a": "1"}', "application/json", {"data": {"a": "1"}, "post": {}, "files": {}}),
        (b"a=1", FORM, {"data": {"a": "1"}, "post": {"a": "1"}, "files": {}}),
        (
            *multipart(("a", None, "", b"1"), ("scan", "scan.txt", "text/plain", b"text")),
            {"data": {"a": "1"}, "post": {"a": "1"}, "files": {"scan": "text"}},
        ),
    ],
    ids=["JSON", "form", "parts"],
)
def test_a3_37_data_body_and_files_are_readable_after_fingerprinting(
    alice: Caller, body: bytes, content_type: str, read: dict[str, Any]
) -> None:
    answer = alice.post("/reading/", body, key=new_key(), content_type=content_type)
    assert answer.status_code == 201
    assert answer.json() | read | {"body": len(body)} == answer.json()


def test_a3_38_pair_order_across_names_does_not_matter(alice: Caller) -> None:
    assert_same_request(*send_both(alice, "/pay/", "a=1&b=2&a=3&c=", "c=&b=2&a=1&a=3", FORM))


def test_a3_38_nor_does_percent_encoding(alice: Caller) -> None:
    assert_same_request(*send_both(alice, "/pay/", "a=x+y%2Fz", "%61=x%20y/z", FORM))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a=1&a=2", "a=2&a=1"),
        ("a=1&b=2", "a=2&b=1"),
        ("a=1", "a=1&a=1"),
        ("a=1", "a=1&b="),
        ("a=1&b=2", "a=1%26b=2"),
        ("a=1%3D2", "a%3D1=2"),
        ("a=%FF", "a=%FE"),
        ("a=%FF", "a=%EF%BF%BD"),
        ("a=\xff".encode(), b"a=\xff"),
    ],
)
def test_a3_38_other_pairs_are_another_request(alice: Caller, one: str, other: str) -> None:
    assert_other_request(*send_both(alice, "/pay/", one, other, FORM))


@pytest.mark.parametrize(
    ("one", "other"),
    [("?id=2&id=1", "?id=1&id=2"), ("?id=1", "?id=2"), ("?id=1", ""), ("?id=%FF", "?id=%FE"), ("?a=b%26c", "?a=b&c")],
)
def test_a3_39_the_query_string_is_part_of_the_request(alice: Caller, one: str, other: str) -> None:
    key = new_key()
    assert_other_request(alice.post(f"/pay/{one}", key=key), alice.post(f"/pay/{other}", key=key))


@pytest.mark.parametrize(("one", "other"), [("?a=1&b=2", "?b=2&a=1"), ("?a=%2F", "?a=/"), ("?a=", "?a"), ("?", "")])
def test_a3_39_spellings_of_one_query_are_one_request(alice: Caller, one: str, other: str) -> None:
    key = new_key()
    assert_same_request(alice.post(f"/pay/{one}", key=key), alice.post(f"/pay/{other}", key=key))


@pytest.mark.parametrize("query", ["?é=€", "?%", "?%zz=%", "?=&&;=", "?a=%00", "?\udcff", "?" + "a&" * 900])
def test_a3_39_no_query_string_makes_a_server_error(alice: Caller, query: str) -> None:
    path = "/pay/" + query.encode("utf-8", "surrogatepass").decode("latin-1")
    key = new_key()
    assert_same_request(alice.post(path, key=key), alice.post(path, key=key))


@pytest.mark.parametrize("query", ["a=€", "€=1", "a=\u00e9", "a=%E2%82%AC€", "a=%FF", "a=%"])
def test_a3_39_nor_does_one_under_asgi_which_decodes_it(alice: Caller, query: str) -> None:
    alice.client = AsyncCaller()
    key = new_key()
    first, again, other = (alice.post(f"/pay/?{text}", key=key) for text in (query, query, query + "0"))
    assert_same_request(first, again)
    assert_other_request(first, other)


def test_a3_39_bytes_that_are_no_text_are_told_apart_under_asgi(alice: Caller) -> None:
    alice.client = AsyncCaller()
    key = new_key()
    assert_other_request(alice.post("/pay/?a=\u00e9", key=key), alice.post("/pay/?a=%E9", key=key))


@pytest.mark.parametrize(
    ("one", "other"),
    [("application/json", FORM), ("application/json", "text/plain"), ("application/json", ""), ("text/plain", FORM)],
)
@pytest.mark.parametrize("body", ['{"a":1}', "a=1"])
def test_a3_40_the_media_type_is_part_of_the_request(alice: Caller, one: str, other: str, body: str) -> None:
    key = new_key()
    answers = [alice.post("/raw/", body, key=key, content_type=content_type) for content_type in (one, other)]
    assert_other_request(*answers)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("application/json", "application/json; charset=utf-8"),
        ("application/json;charset=UTF-8", "APPLICATION/JSON ; charset=ascii; q=1"),
        (FORM, FORM + "; charset=utf-8"),
    ],
)
def test_a3_40_parameters_of_the_media_type_are_not(alice: Caller, one: str, other: str) -> None:
    key = new_key()
    body = '{"a": 1}'
    answers = [alice.post("/raw/", body, key=key, content_type=content_type) for content_type in (one, other)]
    assert_same_request(*answers)


@pytest.mark.parametrize(
    ("body", "content_type", "same", "other"),
    [
        ('{"a": 1, "sent_at": 1}', "application/json", '{"sent_at": 2, "a": 1}', '{"a": 2, "sent_at": 1}'),
        ('{"a": 1, "sent_at": 1}', "application/json", '{"a": 1}', '{"a": 1, "sent": 1}'),
        ("a=1&sent_at=1", FORM, "sent_at=2&sent_at=3&a=1", "a=2&sent_at=1"),
        ("a=1&zeit%C3%BC=1", FORM, "a=1&zeitü=2", "a=1&zeit%FC=1"),
        (
            '{"a": 1, "b": {"sent_at": 1}}',
            "application/json",
            '{"a": 1, "b": {"sent_at": 1}}',
            '{"a": 1, "b": {"sent_at": 2}}',
        ),
        ('[{"sent_at": 1}]', "application/json", '[{"sent_at": 1}]', '[{"sent_at": 2}]'),
    ],
)
def test_a3_41_named_members_can_be_left_out(
    alice: Caller, body: str, content_type: str, same: str, other: str
) -> None:
    key = new_key()
    first, mismatch, again = (
        alice.post("/excluding/", text, key=key, content_type=content_type) for text in (body, other, same)
    )
    assert_other_request(first, mismatch)
    assert_same_request(first, again)


def test_a3_41_named_parts_can_be_left_out(alice: Caller) -> None:
    one, two = (multipart(AMOUNT, ("sent_at", None, "", text)) for text in (b"1", b"2"))
    other = multipart(("amount", None, "", b"2"), ("sent_at", None, "", b"1"))
    first, mismatch, again = send_forms(alice, "/excluding/", one, other, two)
    assert_other_request(first, mismatch)
    assert_same_request(first, again)


@pytest.mark.parametrize(
    ("body", "content_type", "same", "other"),
    [
        ('{"amount": 1, "a": 1}', "application/json", '{"amount": 1.0, "b": 2}', '{"amount": 2, "a": 1}'),
        ('{"amount": 1}', "application/json", '{"a": 1, "amount": 1}', '{"amount": 1, "currency": null}'),
        ("amount=1&a=1", FORM, "amount=1&b=2", "amount=1&a=1&currency="),
    ],
)
def test_a3_41_named_members_alone_can_be_compared(
    alice: Caller, body: str, content_type: str, same: str, other: str
) -> None:
    key = new_key()
    first, mismatch, again = (
        alice.post("/selecting/", text, key=key, content_type=content_type) for text in (body, other, same)
    )
    assert_other_request(first, mismatch)
    assert_same_request(first, again)


def test_a3_42_the_stored_fingerprint_is_keyed(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    body, digests = b'{"pin":"1234"}', []
    signed = fingerprints.Keyring.sign
    monkeypatch.setattr(
        fingerprints.Keyring, "sign", lambda ring, digest: digests.append(digest) or signed(ring, digest)
    )
    alice.post("/pay/", body, key=new_key())
    stored, content = bytes(Record.objects.get().fingerprint), digests[0]
    guesses = [body, content, fingerprints.canonical_json(body), hashlib.sha256(body).digest()]
    assert len(stored) == 32
    assert stored != content
    assert stored not in [hashlib.sha256(guess).digest() for guess in guesses]
    derived = hmac.digest(b"a secret of the tests", b"django-idempotency fingerprint", "sha256")
    assert stored == hmac.digest(derived, content, "sha256")


def test_a3_42_another_secret_gives_another_fingerprint(alice: Caller) -> None:
    for secret in ("one", "other"):
        with override_settings(IDEMPOTENCY_SECRETS=[secret]):
            alice.post("/pay/", {"pin": "1234"}, key=new_key())
    one, other = Record.objects.all()
    assert bytes(one.fingerprint) != bytes(other.fingerprint)
    assert one.fingerprint_secret != other.fingerprint_secret


def test_a3_42_no_column_lets_a_body_be_guessed(alice: Caller) -> None:
    bodies = [{"pin": "1234"}, {"pin": "1235"}]
    for body in bodies:
        alice.post("/pay/", body, key=new_key())
    one, other = Record.objects.order_by("id")
    unkeyed = {"digest", "response_body", "outcome_hash"}
    texts = [field.attname for field in Record._meta.fields if field.attname not in unkeyed]
    for name in texts:
        for record in (one, other):
            assert "1234" not in str(getattr(record, name))
    assert alice.post("/pay/", bodies[0], key=one.key)["Idempotent-Replayed"] == "true"


def store_under(secrets: list[str], caller: Caller, key: str) -> Any:
    with override_settings(IDEMPOTENCY_SECRETS=secrets):
        return caller.post("/pay/", {"amount": 1}, key=key)


def test_a3_43_records_match_after_a_rotation(alice: Caller) -> None:
    key = new_key()
    first = store_under(["old"], alice, key)
    with override_settings(IDEMPOTENCY_SECRETS=["new", "old"]):
        assert_same_request(first, alice.post("/pay/", {"amount": 1}, key=key))
        assert_other_request(first, alice.post("/pay/", {"amount": 2}, key=key))
    with override_settings(IDEMPOTENCY_SECRETS=["old", "new"]):
        assert_same_request(first, alice.post("/pay/", {"amount": 1}, key=key))


def test_a3_43_the_newest_secret_signs_and_its_id_and_the_version_are_stored(alice: Caller) -> None:
    for secrets in (["old"], ["new", "old"], ["new"]):
        store_under(secrets, alice, new_key())
    old, both, new = Record.objects.order_by("id")
    assert old.fingerprint_secret != both.fingerprint_secret == new.fingerprint_secret
    assert {record.fingerprint_version for record in (old, both, new)} == {fingerprints.VERSION}
    assert not {"old", "new"} & {record.fingerprint_secret for record in (old, both, new)}


@pytest.mark.parametrize("body", [{"amount": 1}, {"amount": 2}])
def test_a3_43_a_record_whose_secret_is_gone_is_neither_replayed_nor_run_again(
    alice: Caller, body: dict[str, int]
) -> None:
    key = new_key()
    first = store_under(["old"], alice, key)
    with override_settings(IDEMPOTENCY_SECRETS=["new"]):
        answers = [alice.post("/pay/", body, key=key) for _ in range(2)]
    for answer in answers:
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["retryable"]) == (409, "response-not-replayable", False)
        assert "Retry-After" not in answer
        assert str(first.json()["id"]) not in problem.values()
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (1, 1, 1)
    assert store_under(["old"], alice, key).content == first.content


def test_a3_43_a_record_of_an_unknown_recipe_is_neither_replayed_nor_run_again(alice: Caller) -> None:
    key = new_key()
    alice.post("/pay/", {"amount": 1}, key=key)
    Record.objects.update(fingerprint_version=fingerprints.VERSION + 1)
    answer = alice.post("/pay/", {"amount": 1}, key=key)
    assert (answer.status_code, answer.json()["code"]) == (409, "response-not-replayable")
    assert (len(runs), Payment.objects.count()) == (1, 1)


def test_a3_43_fallbacks_of_the_secret_key_are_honoured_by_the_default(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/pay/", {"amount": 1}, key=key)
    with override_settings(SECRET_KEY="a new one", SECRET_KEY_FALLBACKS=["a secret of the tests"]):
        assert_same_request(first, alice.post("/pay/", {"amount": 1}, key=key))
        assert_other_request(first, alice.post("/pay/", {"amount": 2}, key=key))
    with override_settings(SECRET_KEY="a new one"):
        assert alice.post("/pay/", {"amount": 1}, key=key).json()["code"] == "response-not-replayable"
    assert (len(runs), Payment.objects.count()) == (1, 1)


def test_a3_44_fingerprints_are_compared_in_constant_time(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    key, compared = new_key(), []
    alice.post("/pay/", {"amount": 1}, key=key)
    compare_digest = hmac.compare_digest

    def spy(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return compare_digest(one, other)

    monkeypatch.setattr(fingerprints.hmac, "compare_digest", spy)
    assert alice.post("/pay/", {"amount": 1}, key=key).status_code == 201
    assert alice.post("/pay/", {"amount": 2}, key=key).status_code == 422
    stored = bytes(Record.objects.get().fingerprint)
    assert compared.count(stored) == 2


def test_a3_44_no_other_comparison_decides(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    first = alice.post("/pay/", {"amount": 1}, key=key)
    with monkeypatch.context() as patched:
        patched.setattr(Operation, "matches", lambda operation, fingerprint: False)
        assert alice.post("/pay/", {"amount": 1}, key=key).status_code == 422
    assert_same_request(first, alice.post("/pay/", {"amount": 1}, key=key))


def test_a3_45_a_mismatch_reveals_nothing(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/pay/", {"amount": 4711, "memo": "rosebud"}, key=key)
    others = [{"amount": 4712, "memo": "rosebud"}, {"amount": 4711, "memo": "citizen"}, {"amount": 4711}, {}]
    answers = [alice.post("/pay/", other, key=key) for other in others]
    assert {answer.status_code for answer in answers} == {422}
    assert len({answer.content for answer in answers}) == 1, "what differs must not show"
    assert len({str(sorted(answer.headers.items())) for answer in answers}) == 1
    record = Record.objects.get()
    said = answers[0].content.decode() + str(answers[0].headers)
    secrets = [key, bytes(record.digest).hex()[:8], bytes(record.fingerprint).hex()[:8], record.fingerprint_secret]
    for secret in [*secrets, "4711", "4712", "rosebud", "citizen", "amount", "memo", f'"id":{first.json()["id"]}']:
        assert secret not in said
    assert set(answers[0].json()) == {"type", "title", "status", "detail", "instance", "code", "retryable"}
    assert not {"Location", "ETag", "Idempotency-Expires", "Idempotent-Replayed"} & set(answers[0].headers)


def test_more_fields_than_are_worth_sorting_count_byte_by_byte(alice: Caller) -> None:
    key, body = new_key(), "&".join(f"amount={number}" for number in range(10_001))
    with override_settings(DATA_UPLOAD_MAX_NUMBER_FIELDS=None):
        forms = [body, body, "note=&" + body]
        statuses = [alice.post("/pay/", form, key=key, content_type=FORM).status_code for form in forms]
        long_query = alice.post("/pay/?" + body, {"amount": 1}, key=new_key()).status_code
    assert statuses == [201, 201, 422]
    assert long_query == 201

"""Keys: parsing, formats, digests."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_idempotency.core.keys import (
    KEY_FORMATS,
    MAX_FIELD_LENGTH,
    MAX_KEY_LENGTH,
    IdempotencyKey,
    length_prefixed,
    parse_key,
    validate_key,
)
from django_idempotency.exceptions import InvalidKey

quickly = settings(max_examples=300, deadline=None, database=None)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
structural = st.text(st.sampled_from('"\\;,=:?@%*aA1 .-\t\nü'))


def quoted(value: str) -> str:
    """Serialise a String as RFC 9651 §4.1.6 has it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@quickly
@given(value=printable, strict=st.booleans(), spaces=st.integers(0, 3))
def test_a_quoted_value_is_parsed_back(value: str, strict: bool, spaces: int) -> None:
    assert parse_key(" " * spaces + quoted(value) + " " * spaces, strict=strict) == value


@quickly
@given(value=printable, name=st.from_regex(r"[a-z*][a-z0-9_\-.*]{0,5}", fullmatch=True), parameter=printable)
def test_parameters_are_ignored(value: str, name: str, parameter: str) -> None:
    assert parse_key(f"{quoted(value)};{name};{name}={quoted(parameter)}") == value


@quickly
@given(field_value=st.text(max_size=5000) | structural, strict=st.booleans())
@example(field_value='"' * 5000, strict=False)
@example(field_value="", strict=False)
@example(field_value="\ud800", strict=False)
def test_any_text_is_parsed_or_refused_as_an_invalid_key(field_value: str, strict: bool) -> None:
    key = parsed(field_value, strict=strict)
    if key is not None:
        assert all(0x20 <= ord(character) <= 0x7E for character in key)
        assert len(key) <= len(field_value) <= MAX_FIELD_LENGTH


def parsed(field_value: str, *, strict: bool = False) -> str | None:
    """Return the key, None where the field is refused; whatever else is raised fails the test."""
    try:
        return parse_key(field_value, strict=strict)
    except InvalidKey:
        return None


@quickly
@given(field_value=structural)
def test_what_is_strict_means_the_same_where_bare_keys_are_let_in_too(field_value: str) -> None:
    key = parsed(field_value, strict=True)
    assert key is None or parse_key(field_value) == key


@quickly
@given(value=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_a_bare_value_is_the_value_itself_or_refused(value: str) -> None:
    if set(value) & set("\"\\,;'"):
        assert parsed(value) != value
    else:
        assert parsed(value) == value


FULL = MAX_FIELD_LENGTH
ADVERSARIAL = {
    "open string": '"' + "a" * (FULL - 1),
    "escapes": '"' + "\\\\" * (FULL // 2 - 1),
    "escaped quotes": '"' + '\\"' * (FULL // 2 - 1),
    "spaces": " " * (FULL - 1) + "\t",
    "spaces after": '"k"' + " " * (FULL - 4) + "\t",
    "spaces after bare": "k" + " " * (FULL - 2) + "\t",
    "spaces within parameters": '"k"' + ";    a" * (FULL // 6 - 1) + "!",
    "parameters": '"k"' + ";a" * (FULL // 2 - 4) + "=",
    "bare parameters": "k" + ";a=1" * (FULL // 4 - 1) + "=",
    "numbers": '"k"' + ";a=1.1" * (FULL // 6 - 1) + "1111",
    "digits": '"k";a=' + "1" * (FULL - 6),
    "tokens": '"k"' + ";a=a:/a" * (FULL // 7 - 1) + '"',
    "byte sequences": '"k"' + ";a=::" * (FULL // 5 - 1) + ":",
    "an open byte sequence": '"k";a=:' + "a" * (FULL - 7),
    "strings": '"k"' + ';a=""' * (FULL // 5 - 1) + '"',
    "display strings": '"k"' + ';a=%"%20"' * (FULL // 9 - 1) + "%",
    "an open display string": '"k";a=%"' + "%20" * (FULL // 3 - 4) + "%2",
    "semicolons": ";" * FULL,
    "long names": '"k";' + "a-_." * (FULL // 4 - 2) + "A",
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("field_value", ADVERSARIAL.values(), ids=ADVERSARIAL.keys())
def test_a_field_of_full_length_is_refused_in_linear_time(field_value: str, strict: bool) -> None:
    assert len(field_value) <= MAX_FIELD_LENGTH
    started = time.process_time()
    with pytest.raises(InvalidKey):
        parse_key(field_value, strict=strict)
    assert time.process_time() - started < 0.2


def test_a_longer_field_is_refused_unread() -> None:
    assert parse_key(quoted("k" * (MAX_FIELD_LENGTH - 2))) == "k" * (MAX_FIELD_LENGTH - 2)
    with pytest.raises(InvalidKey, match="longer than 4096"):
        parse_key(quoted("k" * (MAX_FIELD_LENGTH - 1)))


UUIDS = {4: "8e03978e-40d5-43e8-bc93-6894a57f9324", 7: "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"}
OTHER_UUIDS = {
    1: "c232ab00-9414-11ec-b3c8-9f6bdeced846",
    5: "2ed6657d-e927-568b-95e1-2665a8aea6a2",
    8: "2489e9ad-2ee2-8e00-8ec9-32d5f69181c0",
}
NIL, MAXIMUM = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
ULIDS = ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01arz3ndektsv4rrffq69g5fav"]


@pytest.mark.parametrize(
    ("key_format", "accepted"),
    [
        ("uuid_or_ulid", [*UUIDS.values(), *ULIDS]),
        ("uuid", [*UUIDS.values(), *OTHER_UUIDS.values()]),
        ("ulid", ULIDS),
        ("any", [*UUIDS.values(), *OTHER_UUIDS.values(), *ULIDS, NIL, MAXIMUM, "!", "~" * 255, 'a"b\\c']),
    ],
)
def test_a_format_accepts_its_own_and_nothing_else(key_format: Any, accepted: list[str]) -> None:
    candidates = {
        *UUIDS.values(),
        *OTHER_UUIDS.values(),
        *ULIDS,
        NIL,
        MAXIMUM,
        "!",
        "~" * 255,
        'a"b\\c',
        "~" * 256,
        "",
        " ",
        "a b",
        "ü",
        "a\n",
        UUIDS[4] + "\n",
        ULIDS[0] + "\n",
        "٠" + ULIDS[0][1:],
    }
    assert {key for key in candidates if _is_valid(key, key_format)} == set(accepted)


def _is_valid(key: str, key_format: Any) -> bool:
    try:
        validate_key(key, key_format)
    except InvalidKey:
        return False
    return True


def test_every_named_format_is_known() -> None:
    assert {"uuid_or_ulid", "uuid", "ulid", "any"} == KEY_FORMATS


@quickly
@given(key=st.text(max_size=300), key_format=st.sampled_from(sorted(KEY_FORMATS)))
def test_no_format_lets_in_more_than_255_visible_characters(key: str, key_format: Any) -> None:
    if _is_valid(key, key_format):
        assert 1 <= len(key) <= MAX_KEY_LENGTH
        assert all(0x21 <= ord(character) <= 0x7E for character in key)


def test_a_callable_judges_after_the_length() -> None:
    asked: list[str] = []
    for key in ("", "k" * 256, "k"):
        _is_valid(key, lambda value: asked.append(value) or True)
    assert asked == ["k"]
    with pytest.raises(InvalidKey, match="format that this operation asks for"):
        validate_key("k", lambda value: False)


@pytest.mark.parametrize("key", ["secret key", "secret" * 50, "secret\n"])
def test_no_message_repeats_the_key(key: str) -> None:
    for judge in (lambda: validate_key(key, "uuid"), lambda: validate_key(key, lambda value: False)):
        with pytest.raises(InvalidKey) as caught:
            judge()
        assert "secret" not in str(caught.value)
    with pytest.raises(InvalidKey) as caught:
        parse_key(f'"{key}')
    assert "secret" not in str(caught.value)


parts = st.lists(st.binary(max_size=9) | st.just(b"\0" * 8) | st.just((1).to_bytes(8, "big")), max_size=5)


def unprefixed(content: bytes) -> list[bytes]:
    """Take joined parts apart again; that it can be done shows that no two sequences give the same bytes."""
    found = []
    while content:
        end = 8 + int.from_bytes(content[:8], "big")
        found.append(content[8:end])
        content = content[end:]
    return found


@quickly
@given(sequence=parts)
def test_length_prefixed_parts_can_be_taken_apart_again(sequence: list[bytes]) -> None:
    assert unprefixed(length_prefixed(sequence)) == sequence


names = st.text(st.sampled_from("ab\0/ "), max_size=4)
identities = st.tuples(names, names, st.lists(names, max_size=3).map(tuple))


@quickly
@given(one=identities, other=identities)
@example(one=("o", "k", ("ab", "c")), other=("o", "k", ("a", "bc")))
@example(one=("o", "k", ()), other=("o", "k", ("",)))
def test_two_keys_share_a_digest_only_if_all_their_parts_are_equal(one: Any, other: Any) -> None:
    digests = [
        IdempotencyKey(operation=operation, value=value, scope=scope).digest for operation, value, scope in (one, other)
    ]
    assert (digests[0] == digests[1]) == (one == other)


def test_a_key_shows_eight_digits_of_its_digest_and_nothing_else() -> None:
    key = IdempotencyKey(operation="POST pay", value="secret", scope=("user:1",))
    assert repr(key) == f"<IdempotencyKey {key.digest.hex()[:8]}>"
    assert key.prefix == key.digest.hex()[:8]


def test_a_callable_may_refuse_by_raising_value_error() -> None:
    validate_key(str(uuid.uuid1()), uuid.UUID)
    with pytest.raises(InvalidKey):
        validate_key("not a uuid", uuid.UUID)

"""Fingerprints: canonical forms and the keyring."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_idempotency.core.fingerprints import (
    Fingerprint,
    Keyring,
    TooDeep,
    UnknownFingerprint,
    canonical_form,
    canonical_json,
    canonical_pairs,
    content_digest,
    hash_chunks,
)

quickly = settings(max_examples=250, deadline=None, database=None)

tricky_texts = st.sampled_from(
    [
        "",
        "a",
        "A",
        "a ",
        "'",
        '"',
        "\\",
        "\\'",
        "', '",
        "Decimal('1')",
        "()",
        "None",
        "é",
        "e\u0301",
        "\ud800",
        "😀",
        "\0",
    ]
)
texts = tricky_texts | st.text(max_size=5)
numbers = st.sampled_from([Decimal(text) for text in ("0", "1", "-1", "10", "0.1", "1E+400", "1E-400")]) | st.decimals(
    allow_nan=False, allow_infinity=False
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def tagged(value: Any) -> Any:
    """Return what is equal just for equal JSON values; Python takes True for 1."""
    if isinstance(value, dict):
        return ("object", frozenset((name, tagged(member)) for name, member in value.items()))
    if isinstance(value, list):
        return ("array", tuple(tagged(item) for item in value))
    return (type(value).__name__, value)


class Spelling:
    """Writes a JSON value in one of its many spellings, as ``choose`` draws them."""

    def __init__(self, choose: Any) -> None:
        self._choose = choose

    def write(self, value: Any) -> str:
        if isinstance(value, dict):
            members = self._choose(st.permutations(list(value.items())))
            texts = [f"{self._text(name)}{self._space()}:{self.write(member)}" for name, member in members]
            return self._padded("{" + self._space() + ",".join(texts) + "}")
        if isinstance(value, list):
            return self._padded("[" + self._space() + ",".join(self.write(item) for item in value) + "]")
        if isinstance(value, Decimal):
            return self._padded(self._number(value))
        return self._padded(self._text(value) if isinstance(value, str) else json.dumps(value))

    def _padded(self, text: str) -> str:
        return self._space() + text + self._space()

    def _space(self) -> str:
        return str(self._choose(st.sampled_from(["", " ", "\n\t", "\r\n"])))

    def _text(self, value: str) -> str:
        escaped = self._choose(st.booleans()) or any(0xD800 <= ord(character) < 0xE000 for character in value)
        return json.dumps(value, ensure_ascii=escaped)

    def _number(self, value: Decimal) -> str:
        sign, digits, exponent = value.as_tuple()
        zeros = self._choose(st.integers(0, 3))
        text = "".join(map(str, digits)).lstrip("0") or "0"
        text, shift = (text, exponent) if text == "0" else (text + "0" * zeros, int(exponent) - zeros)
        mark = self._choose(st.sampled_from("eE"))
        fraction = self._choose(st.sampled_from(["", ".0", ".00"]))
        plain = shift == 0 and self._choose(st.booleans())
        return f"{'-' if sign else ''}{text}{fraction}" + ("" if plain else f"{mark}{shift:+d}")


def write(data: st.DataObject, value: Any) -> bytes:
    return Spelling(data.draw).write(value).encode()


@quickly
@given(value=values, data=st.data())
def test_every_spelling_of_a_json_value_has_one_canonical_form(value: Any, data: st.DataObject) -> None:
    assert canonical_json(write(data, value)) == canonical_json(write(data, value))


@quickly
@given(one=values, other=values, data=st.data())
def test_json_values_share_a_canonical_form_only_if_they_are_equal(one: Any, other: Any, data: st.DataObject) -> None:
    forms = [canonical_json(write(data, value)) for value in (one, other)]
    assert (forms[0] == forms[1]) == (tagged(one) == tagged(other))


@quickly
@given(value=values, data=st.data(), name=texts, member=scalars)
def test_a_changed_member_changes_the_canonical_form(value: Any, data: st.DataObject, name: str, member: Any) -> None:
    one = {"outer": value, name: member}
    other = {**one, name: [member]}
    assert canonical_json(write(data, one)) != canonical_json(write(data, other))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b"1", b"1.0", True),
        (b"1", b"10e-1", True),
        (b"0", b"-0.0e5", True),
        (b"9007199254740993", b"9007199254740992", False),
        (b"9007199254740993", b"9007199254740993.0", True),
        (b"1e400", b"10e399", True),
        (b"1e400", b"1e401", False),
        (b"0.1", b"0.1000000000000000055511151231257827", False),
        (b"1", b"true", False),
        (b'"1"', b"1", False),
        (b"{}", b"[]", False),
        (b'{"a": null}', b"{}", False),
        (b'"\\u00e9"', '"é"'.encode(), True),
        (b'"e\\u0301"', '"é"'.encode(), False),
        (b'"\\ud83d\\ude00"', '"😀"'.encode(), True),
        (b'"\\ud800"', b'"\\\\ud800"', False),
    ],
)
def test_equality_of_json_values_is_exact(one: bytes, other: bytes, equal: bool) -> None:
    assert (canonical_json(one) == canonical_json(other)) is equal


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"1 2",
        b"01",
        b"{'a': 1}",
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 2}',
        b'[{"b": {"a": 1, "a": 2}}]',
        b"NaN",
        b"[Infinity, -Infinity]",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b"1e9999999999999999999",
        b"-1e-9999999999999999999",
    ],
)
def test_what_has_no_single_meaning_has_no_canonical_form(body: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - JSON, UTF-8 and our own
        canonical_json(body)
    assert not isinstance(caught.value, TooDeep)


@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'[{"a":['])
def test_nesting_beyond_the_parser_is_told_apart(unit: bytes) -> None:
    with pytest.raises(TooDeep):
        canonical_json(unit * 200_000)


@pytest.mark.parametrize("depth", [100, 300, 500, 700])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_what_a_view_can_parse_is_never_too_deep(opening: bytes, closing: bytes, depth: int) -> None:
    """It may have no canonical form, though, and then counts byte by byte."""
    body = opening * depth + b"1" + closing * depth
    json.loads(body)
    try:
        canonical_json(body)
    except TooDeep:
        pytest.fail("a view would have parsed it")
    except ValueError:
        assert depth > 100


@quickly
@given(body=st.binary(max_size=40) | st.text(st.sampled_from('{}[]",:1.eE-aN\\u'), max_size=12).map(str.encode))
def test_any_bytes_have_a_canonical_form_or_raise_value_error(body: bytes) -> None:
    try:
        form = canonical_json(body)
    except ValueError:
        return
    assert canonical_json(b" " + body + b"\n") == form


@quickly
@given(members=st.dictionaries(texts, scalars, max_size=4), excluded=st.sets(texts, max_size=3), data=st.data())
def test_members_left_out_do_not_count_and_all_others_do(
    members: dict[str, Any], excluded: set[str], data: st.DataObject
) -> None:
    kept = {name: value for name, value in members.items() if name not in excluded}
    selected = canonical_json(write(data, members), lambda name: name not in excluded)
    assert selected == canonical_json(write(data, kept))


pairs = st.lists(st.tuples(st.sampled_from("ab") | st.text(max_size=3), st.binary(max_size=3)), max_size=6)


def by_name(sequence: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for name, value in sequence:
        found.setdefault(name, []).append(value)
    return found


@quickly
@given(one=pairs, other=pairs, data=st.data())
@example(one=[("a", b"bc")], other=[("ab", b"c")], data=None)
@example(one=[("a", b""), ("b", b"")], other=[("a", b"b"), ("", b"")], data=None)
def test_pairs_are_equal_just_if_each_name_has_the_same_values_in_order(
    one: list[tuple[str, bytes]], other: list[tuple[str, bytes]], data: st.DataObject | None
) -> None:
    if data is not None and data.draw(st.booleans()):
        other = data.draw(st.permutations(one))
    assert (canonical_pairs(one) == canonical_pairs(other)) == (by_name(one) == by_name(other))


def spell_with_percents(content: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in content)


spellings = st.sampled_from([quote_plus, quote, spell_with_percents])


@quickly
@given(sequence=pairs, chosen=st.lists(spellings, min_size=12, max_size=12))
def test_every_spelling_of_a_form_has_one_canonical_form(sequence: list[tuple[str, bytes]], chosen: list[Any]) -> None:
    texts = [content for name, value in sequence for content in (name.encode(), value)]
    spelled = [spell(content) for spell, content in zip(chosen, texts, strict=False)]
    encoded = "&".join(f"{name}={value}" for name, value in zip(spelled[::2], spelled[1::2], strict=True))
    assert canonical_form(encoded.encode()) == canonical_pairs(sequence)


@quickly
@given(value=st.binary(max_size=20).map(lambda value: value.replace(b"&", b"")))
@example(value=b"\xc3%A9")
def test_bytes_beyond_ascii_count_as_their_percent_encoding(value: bytes) -> None:
    spelled = "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in value)
    assert canonical_form(b"a=" + value) == canonical_form(b"a=" + spelled.encode())


def test_bytes_beyond_ascii_are_told_apart() -> None:
    forms = [b"a=\xff", b"a=\xfe", b"a=%C3%BF", b"a=\xed\xa0\x80", b"a=%EF%BF%BD", b"a", b"a=a"]
    assert len({canonical_form(form) for form in forms}) == len(forms)
    assert canonical_form(b"a=\xff") == canonical_form(b"a=%ff")
    assert canonical_form("ü=ü".encode()) == canonical_form(b"%C3%BC=%c3%bc")


@quickly
@given(chunks=st.lists(st.binary(max_size=5), max_size=5))
def test_how_a_stream_is_chunked_does_not_matter(chunks: list[bytes]) -> None:
    assert hash_chunks(chunks) == hash_chunks([b"".join(chunks)])


@quickly
@given(one=st.lists(texts, max_size=4), other=st.lists(texts, max_size=4))
@example(one=["ab", "c"], other=["a", "bc"])
def test_parts_of_a_request_cannot_run_into_each_other(one: list[str], other: list[str]) -> None:
    assert (content_digest(one) == content_digest(other)) == (one == other)


DIGEST = content_digest(["a request"])


def test_a_keyring_verifies_what_any_of_its_secrets_signed() -> None:
    old, both, new = (Keyring.of(secrets) for secrets in (["old"], ["new", "old"], ["new"]))
    assert both.verify(old.sign(DIGEST), DIGEST)
    assert both.verify(new.sign(DIGEST), DIGEST)
    assert both.sign(DIGEST) == new.sign(DIGEST) != old.sign(DIGEST)
    assert not both.verify(old.sign(DIGEST), content_digest(["another"]))


@pytest.mark.parametrize("stored", ["another secret", "another recipe"])
def test_what_cannot_be_verified_is_neither_right_nor_wrong(stored: str) -> None:
    ring = Keyring.of(["new"])
    own = ring.sign(DIGEST)
    unknown = Keyring.of(["old"]).sign(DIGEST)
    if stored == "another recipe":
        unknown = Fingerprint(version=own.version + 1, secret_id=own.secret_id, digest=own.digest)
    with pytest.raises(UnknownFingerprint):
        ring.verify(unknown, DIGEST)


@quickly
@given(secret=st.text(max_size=20) | st.binary(max_size=20))
def test_the_id_of_a_secret_does_not_show_it_and_fits_its_column(secret: str | bytes) -> None:
    signed = Keyring.of([secret]).sign(DIGEST)
    assert (len(signed.secret_id), len(signed.digest)) == (8, 32)
    assert signed == Keyring.of([secret.encode() if isinstance(secret, str) else secret]).sign(DIGEST)


def test_a_text_and_its_bytes_are_one_secret_and_no_secret_is_its_own_id() -> None:
    ids = {Keyring.of([secret]).sign(DIGEST).secret_id for secret in ("a", "b", b"a", b"b", "", b"")}
    assert len(ids) == 3

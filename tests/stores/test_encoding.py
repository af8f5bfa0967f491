"""Bytes for Redis: what was encoded comes back, and nothing else is ever read."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Record
from django_idempotency.stores.encoding import Mark, decode, encode_mark, encode_record
from django_idempotency.testing import CREATED, make_operation

FINGERPRINT = make_operation().fingerprint
EXPIRY = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
RECORD = Record(fingerprint=FINGERPRINT, outcome=CREATED, expires_at=EXPIRY)
MARK = Mark(fingerprint=FINGERPRINT)


def sealed(data: bytes) -> bytes:
    """Return bytes with the checksum that anybody can make."""
    return data + hashlib.sha256(data).digest()


@given(
    st.builds(
        Outcome,
        status=st.integers(100, 599),
        headers=st.lists(st.tuples(st.text(), st.text())).map(tuple),
        body=st.none() | st.binary(),
        sealed_with=st.text(max_size=16),
    )
)
def test_an_outcome_comes_back_byte_for_byte(outcome: Outcome) -> None:
    record = Record(fingerprint=FINGERPRINT, outcome=outcome, expires_at=EXPIRY)
    assert decode(encode_record(record)) == record


def test_a_mark_comes_back() -> None:
    assert decode(encode_mark(MARK)) == MARK


@pytest.mark.parametrize("encoded", [encode_record(RECORD), encode_mark(MARK)], ids=["record", "mark"])
def test_a_part_is_not_taken_for_the_whole(encoded: bytes) -> None:
    assert [decode(encoded[:end]) for end in range(len(encoded))] == [None] * len(encoded)
    assert decode(encoded + b" ") is None


@pytest.mark.parametrize("encoded", [encode_record(RECORD), encode_mark(MARK)], ids=["record", "mark"])
def test_a_changed_byte_makes_it_unreadable(encoded: bytes) -> None:
    for place in range(len(encoded)):
        changed = bytearray(encoded)
        changed[place] ^= 1
        assert decode(bytes(changed)) is None


def test_another_seal_is_not_believed() -> None:
    def seal(data: bytes) -> bytes:
        return hashlib.sha256(b"secret" + data).digest()

    assert decode(encode_record(RECORD, seal), seal) == RECORD
    assert decode(encode_record(RECORD), seal) is None
    assert decode(encode_mark(MARK), seal) is None


def test_another_version_is_foreign() -> None:
    for encoded in (encode_record(RECORD), encode_mark(MARK)):
        other = encoded[:-32].replace(b"idempotency:1:", b"idempotency:2:", 1)
        assert decode(sealed(other)) is None


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(trap),)

    pickled = pickle.dumps(Trap())
    for prefix in (b"", b"idempotency:1:record:", b"idempotency:1:mark:"):
        assert decode(sealed(prefix + pickled)) is None
        assert decode(prefix + pickled) is None
    assert not trap.exists()


FACTS = {"fingerprint": [1, "id", "00" * 32], "status": 201, "headers": [], "has_body": True, "expires_at": 1.0}


@pytest.mark.parametrize(
    "changed",
    [
        {"fingerprint": None},
        {"fingerprint": [1, "id"]},
        {"fingerprint": [1, "id", "no hex"]},
        {"status": "created"},
        {"status": None},
        {"headers": [["one"]]},
        {"headers": 1},
        {"expires_at": 1e300},
        {"expires_at": "tomorrow"},
    ],
)
def test_sealed_nonsense_is_foreign(changed: dict[str, Any]) -> None:
    def record(facts: Any) -> bytes:
        text = json.dumps(facts).encode()
        return sealed(b"idempotency:1:record:" + struct.pack(">I", len(text)) + text)

    assert isinstance(decode(record(FACTS)), Record)
    assert decode(record({**FACTS, **changed})) is None
    assert decode(record(list(FACTS))) is None
    assert decode(sealed(b"idempotency:1:record:\x00")) is None
    assert decode(sealed(b"idempotency:1:mark:[" * 1)) is None
    assert decode(sealed(b"idempotency:1:mark:" + b"[" * 100_000)) is None


@given(st.binary())
def test_whatever_else_is_there_is_foreign(data: bytes) -> None:
    for prefix in (b"", b"idempotency:1:record:", b"idempotency:1:mark:"):
        assert decode(prefix + data) is None
        assert decode(sealed(prefix + data)) is None

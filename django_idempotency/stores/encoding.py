"""Records and marks as bytes: our own encoding, versioned, which never runs what it reads."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django_idempotency.core.fingerprints import Fingerprint
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Record

# Version and kind. Another version gets another letter, and is then foreign to code that does not know it.
_RECORD, _MARK = b"idempotency:1:record:", b"idempotency:1:mark:"
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Says that an operation is in flight: which one, and who put the mark there."""

    fingerprint: Fingerprint
    token: bytes = field(repr=False)


def encode_record(record: Record) -> bytes:
    """Return a completed record as bytes: its facts as JSON, then the body."""
    outcome = record.outcome
    facts = {
        "fingerprint": _fingerprint_facts(record.fingerprint),
        "status": outcome.status,
        "headers": outcome.headers,
        "has_body": outcome.body is not None,
        "expires_at": record.expires_at.timestamp(),
    }
    encoded = json.dumps(facts, separators=(",", ":")).encode()
    return b"".join((_RECORD, _LENGTH.pack(len(encoded)), encoded, outcome.body or b""))


def encode_mark(mark: Mark) -> bytes:
    """Return a mark as bytes."""
    facts = {"fingerprint": _fingerprint_facts(mark.fingerprint), "token": mark.token.hex()}
    return _MARK + json.dumps(facts, separators=(",", ":")).encode()


def decode(data: bytes) -> Record | Mark | None:
    """Read what was encoded; None for anything else, such as bytes of another version or of somebody else."""
    try:
        if data.startswith(_RECORD):
            return _record(data[len(_RECORD) :])
        if data.startswith(_MARK):
            return _mark(json.loads(data[len(_MARK) :]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, struct.error):
        pass
    return None


def _record(data: bytes) -> Record:
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    facts = json.loads(data[_LENGTH.size : end])
    return Record(
        fingerprint=_fingerprint(facts["fingerprint"]),
        outcome=Outcome(
            status=int(facts["status"]),
            headers=tuple((str(name), str(value)) for name, value in facts["headers"]),
            body=data[end:] if facts["has_body"] else None,
        ),
        expires_at=datetime.fromtimestamp(facts["expires_at"], UTC),
    )


def _mark(facts: dict[str, Any]) -> Mark:
    return Mark(fingerprint=_fingerprint(facts["fingerprint"]), token=bytes.fromhex(facts["token"]))


def _fingerprint_facts(fingerprint: Fingerprint) -> list[Any]:
    return [fingerprint.version, fingerprint.secret_id, fingerprint.digest.hex()]


def _fingerprint(facts: list[Any]) -> Fingerprint:
    version, secret_id, digest = facts
    return Fingerprint(version=int(version), secret_id=str(secret_id), digest=bytes.fromhex(digest))

"""Records and marks as bytes: our own encoding, versioned and sealed, which never runs what it reads."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from django_idempotency.core.fingerprints import Fingerprint, Keyring
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation, Record

# Makes the 32 bytes that stand behind everything, so that a part of it is not taken for the whole.
Seal = Callable[[bytes], bytes]

# Version and kind. Another version gets another number, and is then foreign to code that does not know it.
_RECORD, MARK_PREFIX = b"idempotency:1:record:", b"idempotency:1:mark:"
_LENGTH = struct.Struct(">I")
_SEALED = 32


# Where the fingerprint stands in a record: behind its kind, the length of its facts, and its name; in a mark, at once.
FINGERPRINT_NAME = b'{"fingerprint":'
FINGERPRINT_AT = len(_RECORD) + _LENGTH.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Says that an operation may be in flight, and which one."""

    fingerprint: Fingerprint


def checksum(data: bytes) -> bytes:
    """Seal against accidents alone."""
    return hashlib.sha256(data).digest()


def seal_of(operation: Operation) -> Seal:
    """Seal with a secret and for this operation, so that Redis can neither invent an outcome nor move it elsewhere."""
    begun = hashlib.blake2b(operation.key.digest, key=_seal_key(operation.keyring), digest_size=_SEALED)

    def seal(data: bytes) -> bytes:
        sealing = begun.copy()
        sealing.update(data)
        return sealing.digest()

    return seal


@lru_cache(maxsize=16)
def _seal_key(keyring: Keyring) -> bytes:
    return keyring.derive(keyring.secrets[0][0], b"redis value")


def encode_record(record: Record, seal: Seal = checksum) -> bytes:
    """Return a completed record as bytes: its facts as JSON, then the body."""
    outcome = record.outcome
    facts = {
        "fingerprint": _fingerprint_facts(record.fingerprint),
        "status": outcome.status,
        "headers": outcome.headers,
        "has_body": outcome.body is not None,
        "expires_at": record.expires_at.timestamp(),
    }
    if outcome.sealed_with:
        facts["sealed_with"] = outcome.sealed_with
    encoded = json.dumps(facts, separators=(",", ":")).encode()
    data = b"".join((_RECORD, _LENGTH.pack(len(encoded)), encoded, outcome.body or b""))
    return data + seal(data)


def encode_mark(mark: Mark, seal: Seal = checksum) -> bytes:
    """Return a mark as bytes."""
    data = MARK_PREFIX + encode_fingerprint(mark.fingerprint)
    return data + seal(data)


def decode(sealed: bytes, seal: Seal = checksum) -> Record | Mark | None:
    """Read what was encoded; None for anything else: another version, a part, or what somebody else has written."""
    data = sealed[:-_SEALED]
    if not data.startswith((_RECORD, MARK_PREFIX)) or not hmac.compare_digest(seal(data), sealed[-_SEALED:]):
        return None
    try:
        if data.startswith(_RECORD):
            return _record(data[len(_RECORD) :])
        return Mark(fingerprint=_fingerprint(json.loads(data[len(MARK_PREFIX) :])))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, struct.error):
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
            sealed_with=str(facts.get("sealed_with", "")),
        ),
        expires_at=datetime.fromtimestamp(facts["expires_at"], UTC),
    )


def encode_fingerprint(fingerprint: Fingerprint) -> bytes:
    """Return a fingerprint as it stands in records and marks."""
    return json.dumps(_fingerprint_facts(fingerprint), separators=(",", ":")).encode()


def _fingerprint_facts(fingerprint: Fingerprint) -> list[Any]:
    return [fingerprint.version, fingerprint.secret_id, fingerprint.digest.hex()]


def _fingerprint(facts: list[Any]) -> Fingerprint:
    version, secret_id, digest = facts
    return Fingerprint(version=int(version), secret_id=str(secret_id), digest=bytes.fromhex(digest))

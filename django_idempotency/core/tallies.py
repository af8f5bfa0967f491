"""Counts of answers that a store has put aside, to be written down later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django_idempotency.core.records import Operation

_MINUTE = 60
_encode = json.JSONEncoder(separators=(",", ":")).encode


def tallied_facts(operation: Operation, now: float) -> bytes:
    """Return by what an answer is counted, beside its outcome. ``now`` is in seconds since the epoch."""
    key, fingerprint = operation.key, operation.fingerprint.digest.hex()
    facts = (key.operation, key.scope_text, key.digest.hex(), fingerprint, int(now // _MINUTE * _MINUTE))
    return _encode(facts).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often one operation was answered in one way within one minute, which began ``at``."""

    outcome: str
    operation: str
    scope: str
    digest: bytes
    fingerprint: bytes
    at: datetime
    count: int

    @classmethod
    def named(cls, name: bytes, count: int) -> Tally:
        """Read a count: an outcome and what ``tallied_facts`` has written. Raises ValueError for anything else."""
        outcome, _, facts = name.partition(b" ")
        operation, scope, digest, fingerprint, at = json.loads(facts)
        return cls(
            outcome=outcome.decode(),
            operation=operation,
            scope=scope,
            digest=bytes.fromhex(digest),
            fingerprint=bytes.fromhex(fingerprint),
            at=datetime.fromtimestamp(at, UTC),
            count=count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """A batch of counts. Its ``id`` tells whether it has been written down before, should its deletion have failed."""

    id: str
    counted: Sequence[Tally]

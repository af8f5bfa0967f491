"""Facts as the rooms state them, and secrets that must not come out again."""

from __future__ import annotations

from typing import Any

#: What is nobody's business: keys, principals, what the whole digests would give away.
CANARY = "canary-4f1d"
DIGEST = bytes(range(32))
FINGERPRINT = bytes(range(100, 132))
OUTCOME_HASH = bytes(range(200, 232))
SECRETS = (CANARY, DIGEST.hex(), FINGERPRINT.hex(), OUTCOME_HASH.hex())

COMMON: dict[str, Any] = {"sender": object, "using": None, "layer": "http", "operation": "POST charge-list"}


def answered(outcome: str = "executed", **facts: Any) -> dict[str, Any]:
    """Return what ``operation_answered`` is sent with."""
    return {
        **COMMON,
        "outcome": outcome,
        "scope": CANARY,
        "digest": DIGEST,
        "fingerprint": FINGERPRINT,
        "outcome_hash": OUTCOME_HASH,
        "attempt": 1,
        "duration": 0.02 if outcome == "executed" else None,
        "status": 201,
        "reason": "",
        **facts,
    }


def attempted(**facts: Any) -> dict[str, Any]:
    """Return what ``operation_taken_over`` and ``operation_fenced`` are sent with."""
    return {**COMMON, "scope": CANARY, "digest": DIGEST, "attempt": 2, **facts}


def decided(**facts: Any) -> dict[str, Any]:
    """Return what the signals of decisions are sent with."""
    return {**attempted(), "actor": "user:alice", "reason": f"{CANARY} says so", **facts}

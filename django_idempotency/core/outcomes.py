"""Outcomes: what an operation came to, kept as bytes and replayed as bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from django_idempotency.core import notes
from django_idempotency.core.keys import length_prefixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a replay repeats. ``body`` is None where it was not kept: the operation is done and must not run again.

    ``sealed_with`` is the id of the key that headers and body are encrypted with, together, in ``body``.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(repr=False)
    sealed_with: str = ""
    _hash: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def hash(self) -> bytes:
        """SHA-256 over status, headers and body (32 bytes); notes beside them are not part of it."""
        if not self._hash:
            fields = [f"{name}: {value}".encode() for name, value in notes.without(self.headers)]
            parts = length_prefixed((str(self.status).encode(), *fields, self.body or b""))
            self._hash.append(hashlib.sha256(parts).digest())
        return self._hash[0]

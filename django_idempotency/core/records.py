"""Operations, the claims to run them, and the records that stores keep of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter, time

from django_idempotency.core.fingerprints import Fingerprint, Keyring, UnknownFingerprint
from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.outcomes import Outcome
from django_idempotency.exceptions import OutcomeNotReplayable


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is asked to happen once: a key, and the content digest of the request that carries it."""

    key: IdempotencyKey
    content_digest: bytes = field(repr=False)
    keyring: Keyring = field(repr=False)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint to store, under the newest secret."""
        return self.keyring.sign(self.content_digest)

    def matches(self, fingerprint: Fingerprint) -> bool:
        """Tell whether a stored fingerprint is of this request.

        Raises OutcomeNotReplayable where that can no longer be told: such a record is neither replayed nor run again.
        """
        try:
            return self.keyring.verify(fingerprint, self.content_digest)
        except UnknownFingerprint as error:
            raise OutcomeNotReplayable("The secret of the stored fingerprint is no longer configured.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to run an operation. ``claimed_at`` is the store's clock, in seconds since the epoch."""

    operation: Operation
    attempt: int = 1
    claimed_at: float = field(default_factory=time)
    started: float = field(default_factory=perf_counter)

    @property
    def duration(self) -> float:
        """Seconds since the claim was won."""
        return perf_counter() - self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a store knows of a completed operation."""

    fingerprint: Fingerprint
    outcome: Outcome
    expires_at: datetime

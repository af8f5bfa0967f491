"""Operations, the claims to run them, and the records that stores keep of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from time import perf_counter, time
from typing import Any
from uuid import UUID

from django_idempotency.core.fingerprints import Fingerprint, Keyring, UnknownFingerprint
from django_idempotency.core.keys import IdempotencyKey, length_prefixed
from django_idempotency.core.outcomes import Outcome
from django_idempotency.exceptions import OutcomeNotReplayable, OutcomeUnknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is asked to happen once: a key, and the content digest of the request that carries it.

    ``fingerprint`` is what is stored of it, under the newest secret. ``request_id`` names the request that carries it,
    so that it is found in the logs. ``tallied`` are the outcomes that a store has counted of this one request, each in
    the moment it has found it.
    """

    key: IdempotencyKey
    content_digest: bytes = field(repr=False)
    keyring: Keyring = field(repr=False)
    request_id: str = field(default="", repr=False, compare=False)
    tallied: list[str] = field(default_factory=list, repr=False, compare=False)
    fingerprint: Fingerprint = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", self.keyring.sign(self.content_digest))

    def matches(self, fingerprint: Fingerprint) -> bool:
        """Tell whether a stored fingerprint is of this request.

        Raises OutcomeNotReplayable where that can no longer be told: such a record is neither replayed nor run again.
        """
        mine = self.fingerprint
        if (fingerprint.version, fingerprint.secret_id) == (mine.version, mine.secret_id):
            return compare_digest(fingerprint.digest, mine.digest)
        try:
            return self.keyring.verify(fingerprint, self.content_digest)
        except UnknownFingerprint as error:
            raise OutcomeNotReplayable("The secret of the stored fingerprint is no longer configured.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to run an operation. ``claimed_at`` is the store's clock, in seconds since the epoch.

    ``replaces`` says that an expired record is in the place of the one to come.
    """

    operation: Operation
    attempt: int = 1
    replaces: bool = False
    claimed_at: float = field(default_factory=time)
    started: float = field(default_factory=perf_counter)
    subjects: list[str] = field(default_factory=list, repr=False, compare=False)

    def concern(self, subject: Any) -> None:
        """Say what the operation is about, so that the admin leads there: an instance of a model, or a text.

        A text names it as ``app.model:id``. What is said last counts.
        """
        is_model = hasattr(subject, "_meta") and hasattr(subject, "pk")
        self.subjects.append(f"{subject._meta.label_lower}:{subject.pk}" if is_model else str(subject))

    @property
    def about(self) -> str:
        """What the operation is about, 255 characters at most; empty if nobody has said so."""
        return self.subjects[-1][:255] if self.subjects else ""

    @property
    def duration(self) -> float:
        """Seconds since the claim was won."""
        return perf_counter() - self.started

    @property
    def secret_id(self) -> str:
        """The id of the secret that keys are derived with: under a lease, that of the first attempt."""
        return self.operation.keyring.secrets[0][0]

    def derive_key(self, provider: str, purpose: str = "") -> str:
        """Return a key to hand to a provider: a UUID (version 8) that is the same in each attempt of this operation.

        It is an HMAC of the operation and tells nothing of the client's key. ``purpose`` tells apart several calls of
        one provider. Raises OutcomeUnknown if the secret of an earlier attempt is no longer configured.
        """
        message = [b"django-idempotency derived key 1", provider.encode(), purpose.encode(), self.operation.key.digest]
        try:
            derived = bytearray(self.operation.keyring.derive(self.secret_id, length_prefixed(message))[:16])
        except UnknownFingerprint as error:
            raise OutcomeUnknown("The secret of the derived keys is no longer configured.") from error
        derived[6], derived[8] = derived[6] & 0x0F | 0x80, derived[8] & 0x3F | 0x80
        return str(UUID(bytes=bytes(derived)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a store knows of a completed operation."""

    fingerprint: Fingerprint
    outcome: Outcome
    expires_at: datetime

"""Outcomes at rest: encrypted for one operation, so that no other one can be answered with them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Protocol

from django_idempotency.core.fingerprints import Keyring, UnknownFingerprint
from django_idempotency.core.keys import length_prefixed
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation
from django_idempotency.core.steps import Step
from django_idempotency.exceptions import OutcomeUnreadable

_KEY, _OUTCOME, _RESULT = (f"django-idempotency sealed {part} 1".encode() for part in ("key", "outcome", "result"))
_LENGTH = 8
_WITH_BODY, _WITHOUT_BODY = b"\x01", b"\x00"


class Cipher(Protocol):
    """Authenticated encryption with associated data. Keys have 32 bytes, and serve for one operation each."""

    def encrypt(self, key: bytes, plain: bytes, associated: bytes) -> bytes:
        """Return what ``decrypt`` reads; never twice the same."""

    def decrypt(self, key: bytes, sealed: bytes, associated: bytes) -> bytes:
        """Return the plain bytes. Raises ValueError unless key, bytes and associated data are those of ``encrypt``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose outcome it is: the digest of the key, which covers scope and operation, and the scope as stores keep it."""

    digest: bytes
    scope: str

    @classmethod
    def of(cls, operation: Operation) -> Owner:
        """Return the owner of what comes of an operation."""
        return cls(digest=operation.key.digest, scope=operation.key.scope_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """Seals outcomes with the newest key of a keyring, and opens those that were sealed with any of them.

    Each operation has a key of its own, derived from that of the keyring, so that the cipher's nonces are never short.
    """

    cipher: Cipher
    keyring: Keyring

    @property
    def key_id(self) -> str:
        """The id of the newest key."""
        return self.keyring.secrets[0][0]

    def seal(self, outcome: Outcome, owner: Owner) -> Outcome:
        """Return an outcome whose body holds headers and body, encrypted. One that is sealed already stays as it is."""
        if outcome.sealed_with:
            return outcome
        flag = _WITHOUT_BODY if outcome.body is None else _WITH_BODY
        headers = json.dumps(outcome.headers, separators=(",", ":")).encode()
        plain = b"".join((length_prefixed([headers]), flag, outcome.body or b""))
        sealed = self._encrypt(plain, owner, _OUTCOME, str(outcome.status))
        return Outcome(status=outcome.status, body=sealed, sealed_with=self.key_id)

    def open(self, outcome: Outcome, owner: Owner) -> Outcome:
        """Return the outcome as it was before ``seal``. Raises OutcomeUnreadable."""
        if not outcome.sealed_with or outcome.body is None:
            return outcome
        plain = self._decrypt(outcome.body, owner, outcome.sealed_with, _OUTCOME, str(outcome.status))
        end = _LENGTH + int.from_bytes(plain[:_LENGTH], "big")
        has_body = plain[end : end + 1] == _WITH_BODY
        return Outcome(
            status=outcome.status,
            headers=tuple((name, value) for name, value in json.loads(plain[_LENGTH:end])),
            body=plain[end + 1 :] if has_body else None,
        )

    def seal_result(self, result: Any, owner: Owner, step: str) -> str:
        """Return the result of a step as text, encrypted."""
        return self._encrypt(json.dumps(result).encode(), owner, _RESULT, step).hex()

    def open_result(self, sealed: str, owner: Owner, step: str, key_id: str) -> Any:
        """Return the result of a step. Raises OutcomeUnreadable."""
        try:
            return json.loads(self._decrypt(bytes.fromhex(sealed), owner, key_id, _RESULT, step))
        except (ValueError, TypeError) as error:
            raise OutcomeUnreadable(reason="it was changed, or moved here from another operation") from error

    def _encrypt(self, plain: bytes, owner: Owner, kind: bytes, about: str) -> bytes:
        return self.cipher.encrypt(self._key(self.key_id, owner), plain, _associated(owner, kind, about))

    def _decrypt(self, sealed: bytes, owner: Owner, key_id: str, kind: bytes, about: str) -> bytes:
        try:
            return self.cipher.decrypt(self._key(key_id, owner), sealed, _associated(owner, kind, about))
        except UnknownFingerprint as error:
            raise OutcomeUnreadable(reason=f"the key {key_id} is not configured") from error
        except ValueError as error:
            raise OutcomeUnreadable(reason="it was changed, or moved here from another operation") from error

    def _key(self, key_id: str, owner: Owner) -> bytes:
        return self.keyring.derive(key_id, _KEY + owner.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSteps:
    """Seals the results of the steps of one operation."""

    vault: Vault
    owner: Owner

    def seal(self, step: Step) -> Step:
        """Return a step that has ended with its result encrypted."""
        result = self.vault.seal_result(step.result, self.owner, step.name)
        return replace(step, result=result, sealed_with=self.vault.key_id)

    def open(self, step: Step) -> Step:
        """Return it as it was. Raises OutcomeUnreadable."""
        result = self.vault.open_result(step.result, self.owner, step.name, step.sealed_with)
        return replace(step, result=result, sealed_with="")


def _associated(owner: Owner, kind: bytes, about: str) -> bytes:
    return length_prefixed([kind, owner.scope.encode("utf-8", "surrogatepass"), owner.digest, about.encode()])

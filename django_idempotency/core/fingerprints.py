"""Fingerprints: is this the same request as before?

A request is reduced to a SHA-256 over its canonical parts, which stays in memory; what is stored is an HMAC of it,
since a bare hash would let a reader of the database test guesses of low-entropy secrets offline.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation, Overflow
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from django_idempotency.core.keys import length_prefixed

VERSION = 1

FieldFilter = Callable[[str], bool]

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Overflow])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The stored form: recipe version, id of the secret, and the HMAC-SHA-256 (32 bytes)."""

    version: int
    secret_id: str
    digest: bytes = field(repr=False)


class UnknownFingerprint(ValueError):
    """The fingerprint was made with a recipe or a secret that is no longer known."""


class TooDeep(ValueError):
    """The JSON text is nested beyond what the parser can follow, a view's parser as little as this one."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The secrets that fingerprints are keyed with, newest first."""

    secrets: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, secrets: Sequence[str | bytes], purpose: str = "fingerprint") -> Keyring:
        """Make a keyring; the id of a secret is derived from it, so that it need not be configured."""
        return _keyring(tuple(secrets), purpose)

    def sign(self, content_digest: bytes) -> Fingerprint:
        """Return the fingerprint of a request's content digest under the newest secret."""
        secret_id, secret = self.secrets[0]
        return Fingerprint(version=VERSION, secret_id=secret_id, digest=_hmac(secret, content_digest))

    def verify(self, fingerprint: Fingerprint, content_digest: bytes) -> bool:
        """Tell in constant time whether a stored fingerprint is of this content. Raises UnknownFingerprint."""
        secret = dict(self.secrets).get(fingerprint.secret_id)
        if secret is None or fingerprint.version != VERSION:
            raise UnknownFingerprint
        return hmac.compare_digest(fingerprint.digest, _hmac(secret, content_digest))

    def derive(self, secret_id: str, message: bytes) -> bytes:
        """Return an HMAC-SHA-256 (32 bytes) under a secret. Raises UnknownFingerprint if that is gone."""
        secret = dict(self.secrets).get(secret_id)
        if secret is None:
            raise UnknownFingerprint
        return _hmac(secret, message)


@lru_cache(maxsize=16)
def _keyring(secrets: tuple[str | bytes, ...], purpose: str) -> Keyring:
    keys = [secret.encode() if isinstance(secret, str) else secret for secret in secrets]
    derived = [_hmac(key, b"django-idempotency " + purpose.encode()) for key in keys]
    return Keyring(tuple((_hmac(key, b"id")[:4].hex(), key) for key in derived))


def _hmac(secret: bytes, message: bytes) -> bytes:
    return hmac.digest(secret, message, "sha256")


def content_digest(parts: Iterable[str | bytes]) -> bytes:
    """Return the SHA-256 of a request's canonical parts, length-prefixed."""
    encoded = (part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(length_prefixed(encoded)).digest()


def hash_chunks(chunks: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of a stream without holding it in memory."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def canonical_json(body: bytes, selected: FieldFilter | None = None) -> bytes:
    """Return bytes that are equal for equal JSON values.

    Member order, white space and the spelling of numbers do not matter; numbers are compared exactly (RFC 8785 would
    round them to doubles), strings are not normalised. ``selected`` filters the members of the outermost object.
    Raises ValueError for what has no single meaning (duplicate members, NaN, broken UTF-8), TooDeep for what has none.
    """
    value = _parse(body)
    if selected and isinstance(value, tuple):
        value = tuple(member for member in value if selected(member[0]))
    try:
        # Objects are tuples, arrays lists, numbers Decimals: ascii() is injective here, and alike on every Python.
        return ascii(value).encode()
    except RecursionError as error:
        raise ValueError("not canonical") from error


def _parse(body: bytes) -> Any:
    try:
        return _decode(body.decode("utf-8"))
    except RecursionError as error:
        raise TooDeep from error
    except ArithmeticError as error:
        raise ValueError("not canonical") from error


def _members(pairs: list[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("duplicate member names")
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


def _number(text: str) -> Decimal:
    return _EXACT.normalize(Decimal(text)) or Decimal(0)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_decode = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_number, parse_float=_number, parse_constant=_refuse
).decode


def canonical_pairs(pairs: Iterable[tuple[str, bytes]], selected: FieldFilter | None = None) -> bytes:
    """Return bytes that are equal for the same named values; order matters only among values of one name."""
    kept = [(name, value) for name, value in pairs if not selected or selected(name)]
    ordered = sorted(kept, key=lambda pair: pair[0])
    return length_prefixed(part for name, value in ordered for part in (name.encode("utf-8", "surrogatepass"), value))


def canonical_form(encoded: bytes, selected: FieldFilter | None = None) -> bytes:
    """Canonicalise ``application/x-www-form-urlencoded`` bytes, such as a query string; they need not be UTF-8.

    Raises ValueError beyond 10 000 fields, which would take longer to sort out than a form is worth.
    """
    if not encoded:
        return b""
    escape = "surrogateescape"
    pairs = parse_qsl(encoded.decode("utf-8", escape), keep_blank_values=True, errors=escape, max_num_fields=10_000)
    return canonical_pairs(((name, value.encode("utf-8", escape)) for name, value in pairs), selected)

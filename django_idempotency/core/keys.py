"""Idempotency keys: parsed from the header field, validated against a format, looked up by digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from django_idempotency.exceptions import InvalidKey

KeyFormat = Literal["uuid_or_ulid", "uuid", "ulid", "any"] | Callable[[str], object]

MAX_KEY_LENGTH = 255
MAX_FIELD_LENGTH = 4096

# RFC 9651 §3.3 and §4.2: the alternatives of a bare item start with different characters, so matching is linear.
_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_BARE_ITEM = "|".join(
    (
        r"-?[0-9]{1,12}\.[0-9]{1,3}",  # Decimal
        r"-?[0-9]{1,15}",  # Integer
        _STRING,
        r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*",  # Token
        r":[A-Za-z0-9+/=]*:",  # Byte Sequence
        r"\?[01]",  # Boolean
        r"@-?[0-9]{1,15}",  # Date
        r'%"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*"',  # Display String
    )
)
_PARAMETERS = rf"(?:;\x20*[a-z*][a-z0-9_\-.*]*(?:=(?:{_BARE_ITEM}))?)*"
_STRING_ITEM = re.compile(rf"\x20*({_STRING}){_PARAMETERS}\x20*")
# What most clients send: the value without quotes. A comma would hide a second field line, a single quote a wrong one.
_BARE_VALUE = re.compile(rf"\x20*([\x21\x23-\x26\x28-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+){_PARAMETERS}\x20*")

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_UUID_4_OR_7 = r"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_ULID = r"[0-7][0-9a-hjkmnp-tv-z]{25}"
_FORMATS = {
    "uuid_or_ulid": re.compile(rf"{_UUID_4_OR_7}|{_ULID}", re.IGNORECASE | re.ASCII),
    "uuid": re.compile(_UUID, re.IGNORECASE | re.ASCII),
    "ulid": re.compile(_ULID, re.IGNORECASE | re.ASCII),
    "any": re.compile(r"[\x21-\x7e]+"),
}
KEY_FORMATS = frozenset(_FORMATS)


def parse_key(field_value: str, *, strict: bool = False) -> str:
    """Return the key that a header field value carries, unescaped.

    The value is a Structured Field Item of type String (RFC 9651), whose parameters are ignored, or, unless ``strict``,
    the same characters without quotes. Raises InvalidKey; the message never contains the value.
    """
    if len(field_value) > MAX_FIELD_LENGTH:
        raise InvalidKey(f"The header field is longer than {MAX_FIELD_LENGTH} characters.")
    if match := _STRING_ITEM.fullmatch(field_value):
        return match[1][1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not strict and (match := _BARE_VALUE.fullmatch(field_value)):
        return match[1]
    raise InvalidKey('The header field is not one quoted string such as "8e03978e-40d5-43e8-bc93-6894a57f9324".')


def validate_key(value: str, key_format: KeyFormat) -> None:
    """Raise InvalidKey unless ``value`` has 1 to 255 characters and the format asked for.

    A callable refuses a key by returning something false or by raising ValueError, as ``uuid.UUID`` does.
    """
    if not 1 <= len(value) <= MAX_KEY_LENGTH:
        raise InvalidKey(f"The key must have 1 to {MAX_KEY_LENGTH} characters.")
    if callable(key_format):
        if not _accepts(key_format, value):
            raise InvalidKey("The key does not have the format that this operation asks for.")
    elif not _FORMATS[key_format].fullmatch(value):
        raise InvalidKey(f"The key must have the format {key_format!r}.")


def _accepts(judge: Callable[[str], object], value: str) -> bool:
    try:
        return bool(judge(value))
    except ValueError:
        return False


def length_prefixed(parts: Iterable[bytes]) -> bytes:
    """Join parts so that no two different sequences give the same bytes."""
    return b"".join([len(part).to_bytes(8, "big") + part for part in parts])


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """The client's value within its scope: who asks (tenant, principal; resolved by the server) and for what.

    ``digest`` is the SHA-256 look-up value, unkeyed on purpose: rotating a secret must not make a live key unknown.
    """

    value: str
    scope: tuple[str, ...]
    operation: str
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        parts = ("django-idempotency key 1", self.operation, self.value, *self.scope)
        content = length_prefixed(part.encode("utf-8", "surrogatepass") for part in parts)
        object.__setattr__(self, "digest", hashlib.sha256(content).digest())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.prefix}>"

    @property
    def scope_text(self) -> str:
        """The scope as stores and the admin show it."""
        return " / ".join(self.scope)

    @property
    def prefix(self) -> str:
        """The first 8 hex digits of the digest: what logs may show."""
        return self.digest[:4].hex()

"""Ids of events: UUIDs, by default of version 7, which begin with the time at which they were made."""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import UTC, datetime

_ULID = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {letter: value for value, letter in enumerate(_ULID)} | {"I": 1, "L": 1, "O": 0}
_ULID_LENGTH = 26
# Of what is no UUID, one is made within this namespace.
_NAMESPACE = uuid.UUID("0d3a6a3e-7d0c-5b39-9d59-0c7a52fd6a10")


def new_id() -> uuid.UUID:
    """Return a UUID of version 7 (RFC 9562)."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    return uuid.UUID(int=value & ~(0b11 << 62) | 0b10 << 62)


def read_id(text: str, topic: str) -> uuid.UUID:
    """Return the UUID that a text is: a UUID, a ULID, or else one that is made from the text and the topic.

    Raises ValueError for an empty text.
    """
    if not text.strip():
        raise ValueError("An event id cannot be empty.")
    try:
        return _from_ulid(text) if len(text) == _ULID_LENGTH else uuid.UUID(text)
    except ValueError:
        return uuid.uuid5(_NAMESPACE, f"{topic}\0{text}")


def position_id(topic: str, partition: int, offset: int, incarnation: str) -> uuid.UUID:
    """Return the id of a record that is known by nothing but its place."""
    return uuid.uuid5(_NAMESPACE, f"{topic}\0{partition}\0{offset}\0{incarnation}")


def time_of(event_id: uuid.UUID) -> datetime | None:
    """Return when an id was made, None unless it is of version 7."""
    if event_id.version != 7:
        return None
    try:
        return datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)
    except (OverflowError, ValueError, OSError):  # later than any year that there is
        return None


def _from_ulid(text: str) -> uuid.UUID:
    value = 0
    for letter in text.upper():
        if letter not in _VALUES:
            raise ValueError(text)
        value = value << 5 | _VALUES[letter]
    if value >> 128:
        raise ValueError(text)
    return uuid.UUID(int=value)

"""Entries of Redis Streams: records as fields, ids as offsets, and what XINFO STREAM tells."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django_idempotency.streams.brokers import Headers, Message, Record

_SEQUENCE_BITS = 20
_SEQUENCES = 1 << _SEQUENCE_BITS
_KEY, _VALUE, _HEADER = b"key", b"value", b"h:"


def offset_of(entry_id: bytes) -> int:
    """Return the id of an entry as a number that grows as ids do."""
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds) << _SEQUENCE_BITS | int(sequence)


def id_of(offset: int) -> str:
    """Return the id that a number stands for."""
    return f"{offset >> _SEQUENCE_BITS}-{offset % _SEQUENCES}"


def offset_at(moment: datetime) -> int:
    """Return the first offset that an entry of this moment can have."""
    return int(moment.timestamp() * 1000) << _SEQUENCE_BITS


def is_lost(facts: dict[str, Any], position: int) -> bool:
    """Tell whether a stream has been trimmed behind a position, so that it is not known what was there."""
    first, _end = bounds(facts)
    is_trimmed = facts.get("entries-added", 0) > facts.get("length", 0)
    return is_trimmed and 0 < position < first and position <= _trimmed_to(facts, first)


def _trimmed_to(facts: dict[str, Any], first: int) -> int:
    """Return an offset up to which entries may be gone."""
    deleted = offset_of(facts.get("max-deleted-entry-id") or b"0-0")
    return deleted or first


def bounds(facts: dict[str, Any]) -> tuple[int, int]:
    """Return the offsets of the first entry and of the next to come; both are 0 where there is no stream."""
    if not facts:
        return 0, 0
    end = offset_of(facts["last-generated-id"]) + 1
    return (offset_of(facts["first-entry"][0]) if facts.get("first-entry") else end), end


def fields_of(message: Message) -> list[bytes]:
    """Return names and values of the fields of an entry."""
    fields = [_KEY, message.key]
    if message.value is not None:
        fields += [_VALUE, message.value]
    for name, value in message.headers:
        fields += [_HEADER + name.encode(), value]
    return fields


def record_of(topic: str, partition: int, entry: tuple[bytes, dict[bytes, bytes]]) -> Record:
    """Return the record that an entry is."""
    entry_id, fields = entry
    offset = offset_of(entry_id)
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        key=fields.get(_KEY),
        value=fields.get(_VALUE),
        headers=_headers(fields),
        at=datetime.fromtimestamp((offset >> _SEQUENCE_BITS) / 1000, UTC),
    )


def _headers(fields: dict[bytes, bytes]) -> Headers:
    marked = ((name, value) for name, value in fields.items() if name.startswith(_HEADER))
    return tuple((name.removeprefix(_HEADER).decode(errors="replace"), value) for name, value in marked)

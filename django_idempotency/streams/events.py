"""Events: what records are to those who handle them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django_idempotency.streams.brokers import Record
from django_idempotency.streams.errors import EventRejected
from django_idempotency.streams.ids import position_id, read_id, time_of

ID, TIME, TYPE, TRACE = "event-id", "event-time", "content-type", "traceparent"
JSON, BYTES = "application/json", "application/octet-stream"
#: In place of the name of a header: records are known by their place alone.
POSITION = "position"
#: How an event is known: by the header of this name, by its position, or by what is found in its record.
Identity = str | Callable[[Record], str]
LONGEST_KEY = 255
_EPOCH_BITS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What has happened, as it was published. ``data`` is the payload: what JSON says, or bytes; None is a tombstone.

    ``at``: when it was published. ``epoch``: how often the partition has begun anew.
    """

    event_id: uuid.UUID
    topic: str
    business_key: str
    data: Any
    payload: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int = 0
    offset: int = 0
    epoch: int = 0
    at: datetime

    @property
    def is_tombstone(self) -> bool:
        """Whether it tells that its key is gone."""
        return self.payload is None

    @property
    def version(self) -> int:
        """A number that grows within the partition, also where its offsets begin anew."""
        return self.epoch << _EPOCH_BITS | self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads the records of a partition as events. ``incarnation``: of the topic, where records are known by place."""

    identity: Identity = ID
    epoch: int = 0
    incarnation: str = ""

    def read(self, record: Record) -> Event:
        """Return the event. Raises EventRejected with the reason."""
        headers = _headers(record)
        event_id = self._id(record, headers)
        return Event(
            event_id=event_id,
            topic=record.topic,
            business_key=_key(record),
            data=_data(record, headers.get(TYPE, "")),
            payload=record.value,
            headers=headers,
            partition=record.partition,
            offset=record.offset,
            epoch=self.epoch,
            at=time_of(event_id) or _time(headers) or record.at or datetime.now(UTC),
        )

    def _id(self, record: Record, headers: Mapping[str, str]) -> uuid.UUID:
        if self.identity == POSITION:
            return position_id(record.topic, record.partition, record.offset, self.incarnation or str(self.epoch))
        try:
            found = self.identity(record) if callable(self.identity) else headers[self.identity]
            return read_id(found, record.topic)
        except KeyError as error:
            raise EventRejected(f"It has no header {error}, by which events are known.") from error
        except Exception as error:
            raise EventRejected(f"Its event id cannot be read: {error}") from error


def _headers(record: Record) -> dict[str, str]:
    try:
        return {name.lower(): (value or b"").decode() for name, value in record.headers}
    except UnicodeDecodeError:
        return {name.lower(): (value or b"").decode(errors="backslashreplace") for name, value in record.headers}


def _key(record: Record) -> str:
    try:
        key = (record.key or b"").decode()
    except UnicodeDecodeError as error:
        raise EventRejected("Its key is no UTF-8.") from error
    if len(key) > LONGEST_KEY or "\0" in key:
        raise EventRejected(f"Its key is longer than {LONGEST_KEY} characters, or has a NUL.")
    return key


def _data(record: Record, content_type: str) -> Any:
    """Return what the payload says; what has no content type is taken as JSON."""
    if record.value is None:
        return None
    if content_type and content_type.partition(";")[0].strip().lower() != JSON:
        return record.value
    try:
        return json.loads(record.value)
    except (ValueError, RecursionError) as error:
        raise EventRejected(f"Its payload is no JSON: {error}") from error


def _time(headers: Mapping[str, str]) -> datetime | None:
    try:
        at = datetime.fromisoformat(headers[TIME])
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (KeyError, ValueError, OverflowError):
        return None

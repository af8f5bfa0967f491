"""What records are read as, and why some cannot be."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from django_idempotency.streams.brokers import Record
from django_idempotency.streams.errors import EventRejected
from django_idempotency.streams.events import POSITION, Reader
from django_idempotency.streams.ids import new_id, position_id, read_id, time_of

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def record(value: bytes | None = b'{"a": 1}', key: bytes | None = b"o-1", **headers: Any) -> Record:
    named = {
        "event-id": str(uuid.UUID(int=7)).encode(),
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    given = tuple((name, text) for name, text in named.items() if text is not None)
    return Record(topic="orders", partition=2, offset=5, key=key, value=value, headers=given, at=AT)


def test_an_event_is_known_by_its_header() -> None:
    event = Reader().read(record(tenant=b"acme"))
    assert (event.event_id, event.business_key, event.data) == (uuid.UUID(int=7), "o-1", {"a": 1})
    assert (event.headers["tenant"], event.partition, event.offset, event.at) == ("acme", 2, 5, AT)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (record(event_id=None), "no header 'event-id'"),
        (record(event_id=b" "), "cannot be read"),
        (record(value=b"{"), "no JSON"),
        (record(value=b"\xff"), "no JSON"),
        (record(key=b"\xff"), "no UTF-8"),
        (record(key=b"k" * 256), "longer than 255"),
        (record(value=b"[" * 200_000), "no JSON"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_the_reason(given: Record, reason: str) -> None:
    with pytest.raises(EventRejected, match=reason):
        Reader().read(given)


def test_bytes_are_left_alone_and_tombstones_have_no_data() -> None:
    assert Reader().read(record(value=b"\xff", content_type=b"application/octet-stream")).data == b"\xff"
    assert Reader().read(record(value=b"[1]", content_type=b"Application/JSON; charset=utf-8")).data == [1]
    event = Reader().read(record(value=None))
    assert (event.data, event.is_tombstone) == (None, True)


def test_foreign_events_are_known_by_another_header_a_function_or_their_place() -> None:
    given = record(event_id=None, ce_id=b"a-1")
    assert Reader(identity="ce-id").read(given).event_id == read_id("a-1", "orders")
    assert Reader(identity=lambda found: found.headers[0][1].decode()).read(given).event_id == read_id("a-1", "orders")
    by_place = Reader(identity=POSITION, incarnation="x").read(given).event_id
    assert by_place == position_id("orders", 2, 5, "x")
    assert by_place != Reader(identity=POSITION, incarnation="y").read(given).event_id
    with pytest.raises(EventRejected, match="cannot be read"):
        Reader(identity=lambda found: 1 / 0).read(given)  # type: ignore[arg-type, return-value]


def test_ids_are_uuids_ulids_or_made_of_any_text() -> None:
    known = uuid.uuid4()
    assert read_id(str(known), "orders") == read_id(known.hex, "orders") == known
    assert read_id(ULID, "orders") == uuid.UUID("01563e3a-b5d3-d676-4c61-efb99302bd5b")
    assert read_id(ULID.lower(), "orders") == read_id(ULID, "payments")
    assert read_id("a-1", "orders") != read_id("a-1", "payments")
    assert read_id("U" * 26, "orders").version == read_id("8" * 26, "orders").version == 5


def test_an_id_tells_when_it_was_made_else_a_header_does_else_the_broker() -> None:
    made = new_id()
    assert abs((datetime.now(UTC) - (time_of(made) or AT)).total_seconds()) < 5
    assert Reader().read(record(event_id=str(made).encode(), event_time=AT.isoformat().encode())).at == time_of(made)
    assert Reader().read(record(event_time=b"2025-05-05T00:00:00")).at == datetime(2025, 5, 5, tzinfo=UTC)
    assert Reader().read(record(event_time=b"yesterday")).at == AT
    assert time_of(uuid.uuid4()) is None
    assert time_of(uuid.UUID(int=(2**48 - 1) << 80 | 7 << 76 | 2 << 62)) is None


def test_ids_made_one_after_the_other_sort_by_time() -> None:
    made = [new_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert [value.int >> 80 for value in made] == sorted(value.int >> 80 for value in made)


def test_the_version_grows_over_a_log_that_begins_anew() -> None:
    assert Reader(epoch=1).read(record()).version > Reader().read(record()).version

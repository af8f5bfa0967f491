"""What is sent in arrays arrives as it is, whatever is in it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import DatabaseError, connection, models
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.writes import arrays, upsert
from django_idempotency.writes.arrays import can_be_sent, literal, rows_of
from tests.campaigns.sessions import connection_options
from tests.writes.models import Booking, Fact, Named, Price

pytestmark = pytest.mark.django_db(transaction=True)
NOON = dt.datetime(2025, 6, 1, 12, 0, 0, 5, tzinfo=dt.UTC)
TEXTS = [
    "",
    " ",
    '"',
    "\\",
    '\\"',
    "'",
    "''; --",
    "{",
    "}",
    "{}",
    ",",
    '","',
    "NULL",
    "null",
    "%s",
    "%",
    "a\nb\tc",
    "é",
    "漢字",
    "😀",
    "\ufeff",
    "\x7f",
    "\\x00",
    "\\\\",
    "$1",
]
COLUMNS: list[tuple[str, list[Any]]] = [
    ("text", TEXTS),
    ("text", [None, *TEXTS, None]),
    ("text", ["\\", "a\\b"]),
    ("text", ['"', 'a"b']),
    ("text", [None, None]),
    ("integer", [0, -1, 2**31 - 1, None]),
    ("boolean", [True, False, None]),
    ("date", [dt.date(1, 1, 1), dt.date(9999, 12, 31), None]),
    ("timestamptz", [NOON, dt.datetime(1999, 1, 1, tzinfo=dt.UTC), None]),
    ("uuid", [UUID(int=0), UUID(int=2**128 - 1), None]),
]
texts = st.lists(st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1)


def read_back(kind: str, values: list[Any]) -> list[Any]:
    text = literal(values)
    assert text is not None
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT unnest(%s::{kind}[])", [text])
        return [value for (value,) in cursor.fetchall()]


@pytest.mark.postgresql
@pytest.mark.parametrize("options", [{}, {"server_side_binding": True}])
@pytest.mark.parametrize(("kind", "values"), COLUMNS)
def test_values_are_read_back_as_they_are(kind: str, values: list[Any], options: dict[str, Any]) -> None:
    with connection_options(**options):
        assert read_back(kind, values) == values


@pytest.mark.postgresql
@given(values=texts)
def test_any_texts_are(values: list[str | None]) -> None:
    assert read_back("text", values) == values


def test_no_values_are_an_empty_array() -> None:
    assert literal([]) == "{}"


@pytest.mark.parametrize(
    "values",
    [
        [1, "1"],
        [True, 1],
        [1.5],
        [Decimal(1)],
        [b"a"],
        [models.TextChoices("Kind", "A").A],  # type: ignore[attr-defined]
        [NOON.astimezone(ZoneInfo("Asia/Tokyo"))],
        [NOON.replace(tzinfo=None), None],
        [["a"]],
    ],
)
def test_the_others_are_left_to_the_driver(values: list[Any]) -> None:
    assert literal(values) is None


@pytest.mark.postgresql
def test_what_cannot_be_sent() -> None:
    sent = [can_be_sent(field, connection) for field in Named._meta.concrete_fields]
    assert dict(zip([field.name for field in Named._meta.concrete_fields], sent, strict=True)) == {
        "id": True,
        "code": True,
        "fact": True,
        "data": False,
        "day": True,
        "took": True,
        "ratio": True,
    }
    key, mark = Fact._meta.get_field("biz_key"), Booking._meta.get_field("payload_hash")
    assert rows_of([(key, ["a", models.Value("b")])], connection) is None
    assert rows_of([(key, ["a", models.F("note")])], connection) is None
    assert rows_of([(mark, [b"a" * 32])], connection) is None


@pytest.mark.postgresql
def test_digests_arrive_with_the_row_that_they_are_of() -> None:
    key, mark = Booking._meta.get_field("biz_key"), Booking._meta.get_field("payload_hash")
    digests = [bytes([number]) * 31 + b"\\" for number in range(256)]
    for sent in (digests, [None, *digests[1:]], [b"short", *digests[1:]]):
        statement = rows_of([(mark, sent), (key, list(map(str, range(256))))], connection)
        assert statement is not None
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT c0, c1, place FROM {statement[0]} AS o ORDER BY place", statement[1])
            found = [(value if value is None else bytes(value), key, place) for value, key, place in cursor.fetchall()]
        assert found == [(digest, str(number), number + 1) for number, digest in enumerate(sent)]


def columns_of(model: type[models.Model]) -> list[dict[str, Any]]:
    return list(model.objects.order_by("pk").values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, len(TEXTS)])
@pytest.mark.parametrize("guard", ["hash", "columns"])
def test_hostile_texts_are_keys_and_payload_like_any_other(guard: str, count: int) -> None:
    def write(note: str) -> dict[str, int]:
        rows = [Booking(biz_key=text, amount=1, note=f"{note}{text}", booked_at=NOON) for text in TEXTS[:count]]
        return {name: total for name, total in upsert(Booking, rows, guard=guard).counts.items() if total}

    assert [write(""), write(""), write("-")] == [{"inserted": count}, {"unchanged": count}, {"updated": count}]
    assert dict(Booking.objects.values_list("biz_key", "note")) == {text: f"-{text}" for text in TEXTS[:count]}


@pytest.mark.postgresql
@pytest.mark.parametrize("column", ["biz_key", "note"])
@pytest.mark.parametrize("options", [{}, {"server_side_binding": True}])
def test_what_the_column_does_not_hold_is_refused(column: str, options: dict[str, Any]) -> None:
    with connection_options(**options):
        for value in ("a\0b", "x" * 101):
            rows = [Booking(biz_key=key, amount=1, note="", booked_at=NOON) for key in ("a", "b")]
            setattr(rows[0], column, value)
            with pytest.raises((DatabaseError, ValueError)):
                upsert(Booking, rows)
        assert not Booking.objects.exists()


def rows() -> list[models.Model]:
    fact = Fact(biz_key="fact", amount=None, note='"')
    prices = [
        Price(tenant="t", sku=1, amount="1.005", valid_from=NOON, attrs={"a": ['"', None]}),
        Price(tenant="t", sku="2", amount=Decimal("2"), valid_from=None, attrs=None),
        Price(tenant="t", sku=3, amount=3, valid_from=NOON.astimezone(ZoneInfo("Asia/Tokyo")), attrs="null"),
        Price(
            tenant="t", sku=4, amount=Decimal("-0.00"), valid_from=NOON, attrs=models.Value(None, models.JSONField())
        ),
    ]
    return [fact, *prices]


@pytest.mark.postgresql
@pytest.mark.parametrize("left_out", [0, 1])
def test_the_same_is_stored_as_by_djangos_own_way(monkeypatch: pytest.MonkeyPatch, left_out: int) -> None:
    def write() -> list[dict[str, Any]]:
        fact, *prices = rows()
        prices = prices[: len(prices) - left_out]  # the last has an expression, which no array holds
        upsert(Fact, [fact], key="biz_key")
        Price.objects.upsert(prices)
        found = [*columns_of(Fact), *columns_of(Price)]
        Fact.objects.all().delete()
        Price.objects.all().delete()
        return [{name: v for name, v in row.items() if name not in ("id", "created_at", "updated_at")} for row in found]

    sent = write()
    monkeypatch.setattr("django_idempotency.writes.compilation.can_be_sent", lambda *args: False)
    assert write() == sent
    assert len(sent) == 5 - left_out
    assert arrays.can_be_sent(Fact._meta.get_field("note"), connection)

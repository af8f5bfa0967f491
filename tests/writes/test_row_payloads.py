"""A digest is the same exactly where the columns would be."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import models
from django.db.models import Value

from django_idempotency.writes.row_payloads import canonical, digester, form_of
from tests.writes.models import Booking, Fact, Named, Price

UTC_NOON = dt.datetime(2025, 6, 1, 12, tzinfo=dt.UTC)
SAME: list[tuple[str, Any, Any]] = [
    ("amount", Decimal("1.1"), Decimal("1.10")),
    ("amount", "1.10", Decimal("1.1")),
    ("amount", 1, Decimal("1.00")),
    ("amount", Decimal("0.00"), Decimal("-0.00")),
    ("amount", Decimal("1.005"), Decimal("1.01")),
    ("valid_from", UTC_NOON, UTC_NOON.astimezone(ZoneInfo("Asia/Tokyo"))),
    ("attrs", {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ("attrs", {1: "x"}, {"1": "x"}),
    ("attrs", (1, 2), [1, 2]),
]
OTHER: list[tuple[str, Any, Any]] = [
    ("amount", Decimal("1.1"), Decimal("1.11")),
    ("valid_from", UTC_NOON, UTC_NOON + dt.timedelta(microseconds=1)),
    ("valid_from", UTC_NOON, None),
    ("attrs", None, Value(None, models.JSONField())),
    ("attrs", None, "null"),
    ("attrs", Value(None, models.JSONField()), "null"),
    ("attrs", [1, 2], [2, 1]),
    ("attrs", {"a": None}, {}),
    ("tenant", "", "-"),
]


def digest(version: int = 1, **values: Any) -> bytes:
    fields = tuple(Price._meta.get_field(name) for name in values)
    return digester(fields, version)(Price(**values))


@pytest.mark.parametrize(("field", "one", "two"), SAME)
def test_spellings_of_one_value_have_one_digest(field: str, one: Any, two: Any) -> None:
    assert digest(**{field: one}) == digest(**{field: two})


@pytest.mark.parametrize(("field", "one", "two"), OTHER)
def test_other_values_have_other_digests(field: str, one: Any, two: Any) -> None:
    assert digest(**{field: one}) != digest(**{field: two})


def test_values_do_not_run_into_each_other() -> None:
    def named(code: str, note: str) -> bytes:
        return digester((Fact._meta.get_field("biz_key"), Fact._meta.get_field("note")), 1)(
            Fact(biz_key=code, note=note)
        )

    assert len({named(*pair) for pair in [("ab", "c"), ("a", "bc"), ("", "abc"), ("a1:b", "c"), ("a", "1:b1:c")]}) == 5


def test_the_version_and_the_fields_are_inside() -> None:
    assert len({digest(1, tenant="a"), digest(2, tenant="a"), digest(1, tenant="a", attrs=None)}) == 3
    assert len(digest(1, tenant="a")) == 32


def test_the_digest_does_not_change_between_releases() -> None:
    assert digest(tenant="a", sku=1, amount="2.5", valid_from=UTC_NOON, attrs={"b": [True, None], "a": "é"}).hex() == (
        "cb3d4963565ab90f166f049c43d5dde4e481663b77b52dce16f29f1c803e2d5b"
    )


@pytest.mark.parametrize(
    ("model", "values", "known"),
    [
        (
            Booking,
            {"amount": 7, "note": 'say "ö", \\', "booked_at": UTC_NOON},
            "a5c4c95183792b2ec378e00c0acf573d913f86bad3248241b9ae84a978abfa58",
        ),
        (
            Booking,
            {"amount": "7", "note": None, "booked_at": UTC_NOON.astimezone(ZoneInfo("Asia/Tokyo"))},
            "be3d8422d31daced1d67b4c014d8732d6d41ca70ff66800ce23334a88c334612",
        ),
        (
            Named,
            {
                "id": UUID(int=5),
                "fact_id": 3,
                "data": b"\0\xff",
                "day": dt.date(2025, 1, 2),
                "took": dt.timedelta(hours=1),
                "ratio": 0.1,
            },
            "0da2dcb31280ab1afec5f8d99de5a6f768e52360c7daf181c8a3eca5a050d2c5",
        ),
        (
            Named,
            dict.fromkeys(["id", "fact_id", "data", "day", "took", "ratio"]) | {"id": UUID(int=5)},
            "877887b4a9bf0aea92edc130233c24cbfdec650423396283fe33b6bdbb872556",
        ),
    ],
)
def test_nor_do_those_of_other_columns_alone_or_among_others(
    model: type[models.Model], values: dict[str, Any], known: str
) -> None:
    make = digester(tuple(field for field in model._meta.concrete_fields if field.attname in values), 1)
    obj = model(**values)
    assert make(obj).hex() == known
    other = model(**dict.fromkeys(values))
    assert [digest.hex() for digest in make.all([obj, other, obj])] == [known, make(other).hex(), known]
    assert make.all([]) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "1"),
        (dt.date(2025, 1, 2), "2025-01-02"),
        (dt.time(1, 2, 3), "01:02:03"),
        (dt.timedelta(seconds=-1), "-1000000"),
        (memoryview(b"\x00\xff"), "00ff"),
        (-0.0, "0.0"),
        (float("nan"), "nan"),
        (Decimal("1E+2"), "100"),
        (Decimal("NaN"), "NaN"),
        ({"b": 1, "a": [None]}, "1:a1:-1:b1:1"),
    ],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert canonical(value) == text


def test_related_objects_count_by_their_keys() -> None:
    form = form_of(Named._meta.get_field("fact"))
    assert form(7) == form("7") == "7"


def test_enumerations_count_by_their_values() -> None:
    class Kind(models.TextChoices):
        A = "a"

    assert form_of(Fact._meta.get_field("note"))(Kind.A) == "a"


def test_what_has_no_one_form_is_refused() -> None:
    with pytest.raises(TypeError, match="guard='columns'"):
        canonical(object())
    with pytest.raises(TypeError, match="guard='columns'"):
        digest(tenant=Value("a"))

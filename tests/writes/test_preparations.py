"""No preparation is spared that would have changed a value."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, models

from django_idempotency.writes import upsert
from django_idempotency.writes.preparations import are_plain, plain_type, prepared, sets_on_save, values_of
from django_idempotency.writes.row_payloads import form_of
from tests.writes.models import Booking, Fact, Named, Price

NOON = dt.datetime(2025, 6, 1, 12, tzinfo=dt.UTC)


class Lower(models.CharField):  # type: ignore[type-arg]
    def to_python(self, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


class Tripled(models.IntegerField):  # type: ignore[type-arg]
    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return super().get_db_prep_save(value * 3, connection)


PLAIN: list[tuple[models.Field[Any, Any], Any]] = [
    (models.CharField(), "a"),
    (models.SlugField(), "a"),
    (models.EmailField(), "a"),
    (models.TextField(), ""),
    (models.IntegerField(), -1),
    (models.SmallIntegerField(), 1),
    (models.PositiveBigIntegerField(), 1),
    (models.BigAutoField(), 1),
    (models.BooleanField(), True),
    (models.DateField(), dt.date(2025, 1, 1)),
    (models.DateTimeField(), NOON),
    (models.UUIDField(), UUID(int=1)),
    (Booking._meta.get_field("payload_hash"), b"a"),
    (Named._meta.get_field("fact"), 1),
]
NOT_PLAIN: list[tuple[models.Field[Any, Any], Any]] = [
    (models.CharField(), 1),
    (models.IntegerField(), "1"),
    (models.IntegerField(), True),
    (models.TextField(), None),
    (models.DateField(), NOON),
    (models.DateTimeField(), NOON.replace(tzinfo=None)),
    (models.DateTimeField(), NOON.astimezone(ZoneInfo("Asia/Tokyo"))),
    (models.DecimalField(decimal_places=2, max_digits=5), 1),
    (models.JSONField(), "a"),
    (models.FilePathField(), "a"),
    (models.GenericIPAddressField(), "::1"),
    (Lower(), "a"),
    (Tripled(), 1),
]


def named(case: Any) -> str:
    return type(case).__name__ if isinstance(case, models.Field) else repr(case)


@pytest.mark.parametrize(("field", "value"), PLAIN, ids=named)
def test_plain_values_are_those_that_django_leaves_alone(field: Any, value: Any) -> None:
    assert are_plain(field, [value, value])
    assert not are_plain(field, [value, None])
    assert [*prepared(field, [value], connection)] == [field.get_db_prep_save(value, connection=connection)]


@pytest.mark.parametrize(("field", "value"), NOT_PLAIN, ids=named)
def test_others_are_prepared(field: Any, value: Any) -> None:
    assert not are_plain(field, [value])


def test_a_field_with_its_own_preparation_has_it() -> None:
    assert plain_type(Lower()) is plain_type(Tripled()) is None
    assert prepared(Lower(), ["A"], connection) == ["a"]
    assert prepared(Tripled(), [2], connection) == [6]
    assert form_of(Lower())("A") == "a"


def test_fields_that_set_themselves_on_saving() -> None:
    fields = [*Price._meta.concrete_fields, models.FileField(), models.TimeField(), models.TimeField(auto_now=True)]
    assert [named(field) for field in fields if sets_on_save(field)] == [
        "DateTimeField",
        "DateTimeField",
        "FileField",
        "TimeField",
    ]
    row = Price()
    [moment] = values_of(Price._meta.get_field("updated_at"), [row])
    assert moment == row.updated_at


@pytest.mark.django_db
def test_related_objects_that_were_saved_meanwhile_are_referred_to() -> None:
    fact = Fact(biz_key="a")
    rows = [Named(code="a", fact=fact), Named(code="b")]
    fact.save()
    assert upsert(Named, rows, key="code").counts["inserted"] == 2
    assert dict(Named.objects.values_list("code", "fact")) == {"a": fact.pk, "b": None}

"""Values on their way into columns. Most need no preparation, and Django's takes longer than all else in a write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.writes.fields import DigestField
from django_idempotency.writes.recipes import Field

#: The types that fields leave as they are, if all their preparation is that of Django's class.
_PLAIN: tuple[tuple[type[Field], type], ...] = (
    (models.CharField, str),
    (models.TextField, str),
    (models.IntegerField, int),
    (models.AutoField, int),
    (models.BooleanField, bool),
    (models.DateField, date),
    (models.DateTimeField, datetime),
    (models.UUIDField, UUID),
    (DigestField, bytes),
)
_METHODS = ("to_python", "get_prep_value", "get_db_prep_value", "get_db_prep_save")
_CLOCKS = (models.DateField.pre_save, models.DateTimeField.pre_save, models.TimeField.pre_save)
#: The types that every database takes as they are.
_ANYWHERE = (str, int, bool, bytes)


@lru_cache(maxsize=1024)
def plain_type(field: Field) -> type | None:
    """Return the type whose values need no preparation, None where all values do."""
    if isinstance(field, models.ForeignKey):
        return plain_type(field.target_field) if _prepares_like(field, models.ForeignKey) else None
    return next((kind for base, kind in _PLAIN if _prepares_like(field, base)), None)


def are_plain(field: Field, values: Sequence[Any]) -> bool:
    """Tell whether none of the values needs preparation, nor is NULL."""
    kind = plain_type(field)
    return {*map(type, values)} == {kind} and (kind is not datetime or are_utc(values))


def are_utc(moments: Sequence[Any]) -> bool:
    """Tell whether all moments are in UTC, so that their text is in it, too."""
    return {moment.tzinfo for moment in moments} <= {UTC}


def prepared(field: Field, values: Sequence[Any], connection: BaseDatabaseWrapper) -> Sequence[Any]:
    """Return values as the driver takes them."""
    is_spared = connection.vendor == "postgresql" or plain_type(field) in _ANYWHERE
    if is_spared and are_plain(field, values):
        return values
    return [field.get_db_prep_save(value, connection=connection) for value in values]


def values_of(field: Field, objs: Sequence[models.Model]) -> list[Any]:
    """Return the values of a field just before they are saved."""
    if sets_on_save(field):
        return [field.pre_save(obj, True) for obj in objs]
    return list(map(attrgetter(field.attname), objs))


def sets_on_save(field: Field) -> bool:
    """Tell whether a field changes an object when it is saved, such as the time of the last change, or a file."""
    if type(field).pre_save in _CLOCKS:
        return bool(getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False))
    return type(field).pre_save is not models.Field.pre_save


def _prepares_like(field: Field, base: type[Any]) -> bool:
    return all(getattr(type(field), name) is getattr(base, name) for name in _METHODS)

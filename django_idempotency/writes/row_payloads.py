"""Payloads as text that is the same wherever the columns would be the same.

A number is written with the scale of its column, a moment in UTC, JSON with sorted keys. NULL is not JSON's ``null``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache, singledispatch
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import models

from django_idempotency.writes.preparations import are_plain, plain_type, sets_on_save

Form = Callable[[Any], str | None]
Forms = Callable[[Sequence[Any]], Sequence[str | None]]
#: Decimals are rounded as PostgreSQL rounds them, and never for want of digits.
_DECIMALS = Context(prec=2000, rounding=ROUND_HALF_UP)
#: How plain values of these types become texts all at once.
_TEXTS: dict[type | None, Callable[[Sequence[Any]], Sequence[str]]] = {
    str: lambda values: values,
    int: lambda values: list(map(str, values)),
}


class Digester:
    """Makes digests of the payloads of one model: 32 bytes of SHA-256.

    The version and the names of the fields are inside, so that another recipe makes another digest.
    """

    def __init__(self, fields: Sequence[models.Field[Any, Any]], version: int) -> None:
        self._columns = [(attrgetter(field.attname), forms_of(field)) for field in fields]
        self._preparing = [field for field in fields if sets_on_save(field)]
        names = "".join(_framed(field.name) for field in fields)
        self._start = hashlib.sha256(f"{version},{len(fields)},{names}".encode())

    def __call__(self, obj: models.Model) -> bytes:
        """Return the digest of an object. Raises TypeError for an expression, whose value only the database knows."""
        return self.all([obj])[0]

    def all(self, objs: Sequence[models.Model]) -> list[bytes]:
        """Return the digests of objects, which takes much less time than one after the other."""
        for field in self._preparing:  # such as a file, which has its name when it is saved
            for obj in objs:
                field.pre_save(obj, True)
        texts = [forms(list(map(value_of, objs))) for value_of, forms in self._columns]
        framed = [["-" if text is None else f"{len(text)}:{text}" for text in column] for column in texts]
        return [self._digest("".join(row)) for row in zip(*framed, strict=True)]

    def _digest(self, text: str) -> bytes:
        digest = self._start.copy()
        digest.update(text.encode())
        return digest.digest()


def _framed(text: str | None) -> str:
    """Return a text with its length, so that no two sequences of texts read the same."""
    return "-" if text is None else f"{len(text)}:{text}"


@lru_cache(maxsize=256)
def digester(fields: tuple[models.Field[Any, Any], ...], version: int) -> Digester:
    """Return the digester of these fields."""
    return Digester(fields, version)


def form_of(field: models.Field[Any, Any]) -> Form:
    """Return what brings values of a field into their one form, after the preparation of the field itself."""
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if isinstance(field, models.JSONField):
        return _json_form(field)
    if type(field).get_prep_value is models.DateTimeField.get_prep_value:
        return _moment_form(_plain_form(field))
    if isinstance(field, models.DecimalField) and field.decimal_places is not None:
        return _scaled_form(field, field.decimal_places)
    return _plain_form(field)


def forms_of(field: models.Field[Any, Any]) -> Forms:
    """Return what does so with all values of a column, at once where they are plain."""
    form, texts = form_of(field), _TEXTS.get(plain_type(field))

    def forms(values: Sequence[Any]) -> Sequence[str | None]:
        return texts(values) if texts and are_plain(field, values) else list(map(form, values))

    return forms


def _plain_form(field: models.Field[Any, Any]) -> Form:
    prepare, plain = field.get_prep_value, plain_type(field)
    is_text = plain in _TEXTS

    def form(value: Any) -> str | None:
        if is_text and type(value) is plain:
            return str(value)
        # Before the preparation, which makes a text of an expression.
        _refuse_expression(value)
        return canonical(prepare(value))

    return form


def _moment_form(otherwise: Form) -> Form:
    def form(value: Any) -> str | None:
        if type(value) is datetime and value.tzinfo is UTC:  # the most common, and slow to find out by the other way
            return value.isoformat()
        return otherwise(value)

    return form


def _json_form(field: models.JSONField[Any, Any]) -> Form:
    def form(value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, models.Value):  # JSON's null, which None is not
            value = value.value
        _refuse_expression(value)
        # Keys become texts before they are sorted: 1 and "a" could not be compared.
        plain = json.loads(json.dumps(value, cls=field.encoder))
        return json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    return form


def _scaled_form(field: models.DecimalField[Any, Any], places: int) -> Form:
    quantum, prepare = Decimal(1).scaleb(-places), field.get_prep_value

    def form(value: Any) -> str | None:
        _refuse_expression(value)
        value = prepare(value)
        if value is None or not value.is_finite():
            return value if value is None else str(value)
        return format(value.quantize(quantum, context=_DECIMALS) + 0, "f")  # + 0: there is no negative zero

    return form


def _refuse_expression(value: Any) -> None:
    if hasattr(value, "resolve_expression"):
        raise TypeError(f"Only the database knows the value of {value!r}; use guard='columns'.")


@singledispatch
def canonical(value: Any) -> str | None:
    """Return a value as text, NULL as None. Raises TypeError for types that have no one form."""
    raise TypeError(f"{type(value).__qualname__} has no canonical form; use guard='columns'.")


@canonical.register
def _(value: None) -> None:
    return None


@canonical.register(str)
@canonical.register(int)
@canonical.register(bool)
def _(value: str | int) -> str:
    # What inherits from str or int may say something else of itself, as enumerations do.
    return str.__str__(value) if isinstance(value, str) else str(int(value))


@canonical.register
def _(value: float) -> str:
    return repr(float(value) + 0.0)  # + 0: there is no negative zero


@canonical.register
def _(value: Decimal) -> str:
    return format(value.normalize(_DECIMALS) + 0, "f") if value.is_finite() else str(value)


@canonical.register
def _(value: datetime) -> str:
    return (value.astimezone(UTC) if value.tzinfo else value).isoformat()


@canonical.register(date)
@canonical.register(time)
def _(value: date | time) -> str:
    return value.isoformat()


@canonical.register
def _(value: timedelta) -> str:
    return str(value // timedelta(microseconds=1))


@canonical.register
def _(value: UUID) -> str:
    return value.hex


@canonical.register(bytes)
@canonical.register(bytearray)
@canonical.register(memoryview)
def _(value: Any) -> str:
    return bytes(value).hex()


@canonical.register(list)
@canonical.register(tuple)
def _(value: Any) -> str:
    return "".join(_framed(canonical(item)) for item in value)


@canonical.register
def _(value: dict) -> str:  # type: ignore[type-arg]
    items = sorted((str(key), canonical(item)) for key, item in value.items())
    return "".join(_framed(key) + _framed(text) for key, text in items)

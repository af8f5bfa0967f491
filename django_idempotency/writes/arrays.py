"""Many rows as few parameters: what PostgreSQL is sent is one text for each column.

The driver makes arrays value by value, in Python, which takes several times as long as to join them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import NoneType
from typing import Any
from uuid import UUID

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.writes.fields import DigestField
from django_idempotency.writes.preparations import are_plain, are_utc, prepared
from django_idempotency.writes.recipes import Field

Statement = tuple[str, list[Any]]
#: The types whose ``str()`` PostgreSQL reads, that of moments in UTC.
_WRITTEN = frozenset({str, int, bool, date, datetime, UUID})


def can_be_sent(field: Field, connection: BaseDatabaseWrapper) -> bool:
    """Tell whether values of a field can be sent in arrays: its type is a common one, written in the common way."""
    stored = field.target_field if isinstance(field, models.ForeignKey) else field
    has_own_way = hasattr(field, "get_placeholder") or hasattr(field, "get_placeholder_sql")
    is_common = stored.get_internal_type() in connection.data_types and not has_own_way
    return is_common and connection.vendor == "postgresql"


def rows_of(columns: Iterable[tuple[Field, Sequence[Any]]], connection: BaseDatabaseWrapper) -> Statement | None:
    """Return a query, in brackets, of fields with their values: ``c0``, ``c1`` … by field, and ``place``, from 1.

    None where some value is an expression, which belongs to no array.
    """
    sendable = [(field, _sendable(field, values, connection)) for field, values in columns]
    if any(values is None for _, values in sendable):
        return None
    read = [_column(f"c{n}", field, values or (), connection) for n, (field, values) in enumerate(sendable)]
    sent = [column for column in read if column.array]
    if not sent:
        return None
    arrays, names = ", ".join([column.array for column in sent]), ", ".join([column.selected for column in sent])
    selected = ", ".join([column.selected for column in read])
    sql = f"(SELECT {selected}, place FROM unnest({arrays}) WITH ORDINALITY AS u({names}, place))"
    return sql, [column.param for column in sorted(read, key=lambda column: bool(column.array))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """How a column is selected from its array; the placeholder of one that has none is in what is selected."""

    selected: str
    array: str = ""
    param: Any


def _sendable(field: Field, values: Sequence[Any], connection: BaseDatabaseWrapper) -> Sequence[Any] | None:
    """Return values as the driver takes them, None where one is an expression."""
    if are_plain(field, values):
        return values
    if any(hasattr(value, "resolve_expression") for value in values):
        return None
    values = prepared(field, values, connection)
    return None if any(hasattr(value, "as_sql") for value in values) else values


def _column(name: str, field: Field, values: Sequence[Any], connection: BaseDatabaseWrapper) -> _Column:
    if isinstance(field, DigestField) and {*map(type, values)} == {bytes} and {*map(len, values)} == {32}:
        # All in one parameter, and cut there.
        selected = f"substr(%s::bytea, 32 * place::integer - 31, 32) AS {name}"
        return _Column(selected=selected, param=b"".join(values))
    # Without the length of the type, so that what is too long is an error, and not cut off.
    array = f"%s::{(field.db_type(connection) or '').split('(')[0]}[]"
    return _Column(selected=name, array=array, param=literal(values) or list(values))


def literal(values: Sequence[Any]) -> str | None:
    """Return the array of values of one type, or NULL, as PostgreSQL reads it; None where the driver must write it."""
    kinds = {*map(type, values)}
    present = [value for value in values if value is not None] if NoneType in kinds else values
    kinds.discard(NoneType)
    if len(kinds) > 1 or not kinds <= _WRITTEN or (datetime in kinds and not are_utc(present)):
        return None
    texts = _escaped(present) if str in kinds else [*map(str, present)]
    if texts and len(texts) == len(values):
        return '{"' + '","'.join(texts) + '"}'
    left = iter(texts)
    items = ["NULL" if value is None else f'"{next(left)}"' for value in values]
    return f"{{{','.join(items)}}}"


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    together = "".join(texts)
    if '"' in together or "\\" in together:
        return [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return texts

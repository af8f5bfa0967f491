"""The objects of one call, by their keys: each key once, in an order that all callers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, TypeVar

from django.db import models

from django_idempotency.writes.recipes import Field, Recipe
from django_idempotency.writes.row_payloads import forms_of

M = TypeVar("M", bound=models.Model)
#: A row by the names of its fields.
Values = Mapping[str, Any]
Key = tuple[Any, ...]
ON_DUPLICATE = ("error", "first", "last")


class Entries(Generic[M]):
    """Objects by key. Sorted: two callers that lock the same rows in opposite order would wait for each other."""

    def __init__(self, model: type[M], recipe: Recipe) -> None:
        self._model = model
        # By name, so that those who name the fields in another order still lock the rows in the same one.
        self._fields = sorted(recipe.key, key=lambda field: field.name)
        self._columns = [(attrgetter(field.attname), forms_of(field)) for field in self._fields]
        meta = model._meta
        self._has_relations = any(field.is_relation for field in (*meta.concrete_fields, *meta.private_fields))
        self.by_key: dict[Key, M] = {}

    def add(self, rows: Iterable[M | Values], *, on_duplicate: str) -> None:
        """Add rows, then sort. Raises ValueError for a key that is NULL, or twice there and ``error``."""
        if on_duplicate not in ON_DUPLICATE:
            raise ValueError(f"on_duplicate must be one of {', '.join(ON_DUPLICATE)}, not {on_duplicate!r}.")
        objs = [self._object(row) for row in rows]
        keys = self._keys([list(map(value_of, objs)) for value_of, _ in self._columns])
        self._refuse_null(keys, objs)
        found = dict(zip(keys, objs, strict=True))
        if len(found) < len(objs) and on_duplicate == "error":
            self._refuse_twice(keys, objs)
        if on_duplicate == "first":
            found = dict(zip(reversed(keys), reversed(objs), strict=True))
        self.by_key = {key: found[key] for key in sorted(found)}

    def batches(self, size: int) -> Iterator[dict[Key, M]]:
        """Cut into batches, in order."""
        items = list(self.by_key.items())
        for start in range(0, len(items), size):
            yield dict(items[start : start + size])

    def keys_of(self, fields: Sequence[Field], rows: Sequence[Sequence[Any]]) -> list[Key]:
        """Return the keys of rows of the database that begin with these fields."""
        positions = [fields.index(field) for field in self._fields]
        return self._keys([[row[position] for row in rows] for position in positions])

    def _keys(self, columns: Sequence[Sequence[Any]]) -> list[Key]:
        texts = [forms(values) for values, (_, forms) in zip(columns, self._columns, strict=True)]
        return list(zip(*texts, strict=True))

    def _object(self, row: M | Values) -> M:
        obj = row if isinstance(row, self._model) else self._made(row)
        if self._has_relations:
            # As in bulk_create(): keys of related objects that were saved meanwhile.
            obj._prepare_related_fields_for_save(operation_name="upsert")  # type: ignore[attr-defined]
        return obj

    def _made(self, row: M | Values) -> M:
        if not isinstance(row, Mapping):
            raise TypeError(f"A row must be a {self._model._meta.label} or a mapping, not {type(row).__qualname__}.")
        return self._model(**row)

    def _refuse_null(self, keys: Sequence[Key], objs: Sequence[M]) -> None:
        for key, obj in zip(keys, objs, strict=True):
            if None in key:
                raise ValueError(
                    f"{self._model._meta.label}: a key that is NULL ({self._said(obj)}) is never found again."
                )

    def _refuse_twice(self, keys: Sequence[Key], objs: Sequence[M]) -> None:
        seen: set[Key] = set()
        for key, obj in zip(keys, objs, strict=True):
            if key in seen:
                raise ValueError(f"{self._model._meta.label}: more than one row with the key {self._said(obj)}.")
            seen.add(key)

    def _said(self, obj: M) -> str:
        return ", ".join(f"{field.attname}={getattr(obj, field.attname)!r}" for field in self._fields)

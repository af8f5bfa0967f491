"""The objects of one call, by their keys: each key once, in an order that all callers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from django.db import models

from django_idempotency.writes.recipes import Field, Recipe
from django_idempotency.writes.row_payloads import form_of

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
        self._forms = [(field.attname, form_of(field)) for field in self._fields]
        self.by_key: dict[Key, M] = {}

    def add(self, rows: Iterable[M | Values], *, on_duplicate: str) -> None:
        """Add rows, then sort. Raises ValueError for a key that is NULL, or twice there and ``error``."""
        if on_duplicate not in ON_DUPLICATE:
            raise ValueError(f"on_duplicate must be one of {', '.join(ON_DUPLICATE)}, not {on_duplicate!r}.")
        found: dict[Key, M] = {}
        for row in rows:
            obj = self._object(row)
            key = self._key_of(obj)
            if key in found and on_duplicate == "error":
                raise ValueError(f"{self._model._meta.label}: more than one row with the key {self._said(obj)}.")
            if key not in found or on_duplicate == "last":
                found[key] = obj
        self.by_key = dict(sorted(found.items(), key=lambda entry: entry[0]))

    def batches(self, size: int) -> Iterator[dict[Key, M]]:
        """Cut into batches, in order."""
        items = list(self.by_key.items())
        for start in range(0, len(items), size):
            yield dict(items[start : start + size])

    def reader(self, fields: Sequence[Field]) -> Callable[[Sequence[Any]], Key]:
        """Return what reads the key from rows of the database that begin with these fields."""
        columns = [(fields.index(field), form) for field, (_, form) in zip(self._fields, self._forms, strict=True)]
        return lambda row: tuple([form(row[position]) for position, form in columns])

    def _object(self, row: M | Values) -> M:
        obj = self._model(**row) if isinstance(row, Mapping) else row
        if not isinstance(obj, self._model):
            raise TypeError(f"A row must be a {self._model._meta.label} or a mapping, not {type(row).__qualname__}.")
        # As in bulk_create(): keys of related objects that were saved meanwhile.
        obj._prepare_related_fields_for_save(operation_name="upsert")  # type: ignore[attr-defined]
        return obj

    def _key_of(self, obj: M) -> Key:
        key = tuple([form(getattr(obj, name)) for name, form in self._forms])
        if None in key:
            raise ValueError(f"{self._model._meta.label}: a key that is NULL ({self._said(obj)}) is never found again.")
        return key

    def _said(self, obj: M) -> str:
        return ", ".join(f"{name}={getattr(obj, name)!r}" for name, _ in self._forms)

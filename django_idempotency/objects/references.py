"""Which content is referred to: the rows of every model with such a field, in every database that has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from django.apps import apps
from django.db import connections, models, router

from django_idempotency.objects.fields import ContentAddressedFileField
from django_idempotency.objects.storage import ContentAddressedStorage

References = Callable[[Collection[str]], Iterable[str]]

_registered: list[References] = []


def register_references(references: References) -> References:
    """Have content kept that no field refers to; may be used as a decorator.

    ``references(names)`` is given up to some hundred names and returns those of them that are in use.
    """
    if references not in _registered:
        _registered.append(references)
    return references


@dataclass(frozen=True, slots=True)
class Column:
    """A field of a model in one database."""

    field: models.FileField
    alias: str

    def __str__(self) -> str:
        return f"{self.field.model._meta.label}.{self.field.name} ({self.alias})"

    def among(self, names: Collection[str]) -> Iterator[str]:
        """Yield those of the names that rows refer to."""
        yield from self._names().filter(**{f"{self.field.name}__in": names}).distinct()

    def every(self) -> Iterator[str]:
        """Yield the names of all rows."""
        yield from self._names().exclude(**{self.field.name: ""}).distinct().iterator()

    def _names(self) -> models.QuerySet[Any]:
        rows: models.QuerySet[Any] = self.field.model._base_manager.using(self.alias).order_by()
        return rows.exclude(**{f"{self.field.name}__isnull": True}).values_list(self.field.name, flat=True)


def columns() -> list[Column]:
    """Return the fields whose rows refer to content, whichever storage it is in: one digest is one content."""
    return [
        Column(field, alias)
        for model in apps.get_models()
        for field in model._meta.local_fields
        if _refers_to_content(field) and not model._meta.proxy
        for alias in connections
        if router.allow_migrate_model(alias, model)
    ]


def _refers_to_content(field: Any) -> TypeGuard[models.FileField]:
    return isinstance(field, ContentAddressedFileField) or (
        isinstance(field, models.FileField) and isinstance(field.storage, ContentAddressedStorage)
    )


def has_sources() -> bool:
    """Tell whether anything could refer to content."""
    return bool(_registered or columns())


def referenced(names: Collection[str]) -> set[str]:
    """Return those of the names that are referred to now."""
    sources = [column.among for column in columns()]
    return {name for source in (*sources, *_registered) for name in source(names)}

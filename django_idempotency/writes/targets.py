"""What ON CONFLICT can aim at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import models


def is_unique(model: type[models.Model], key: Sequence[models.Field[Any, Any]]) -> bool:
    """Tell whether these columns, in any order, are those of a constraint that ON CONFLICT (columns) finds.

    It does not find partial ones (their condition would have to be repeated), deferrable ones, and expressions.
    """
    return {field.name for field in key} in _unique_sets(model)


def _unique_sets(model: type[models.Model]) -> Iterator[set[str]]:
    meta = model._meta
    yield {field.name for field in meta.pk_fields}
    yield from ({field.name} for field in meta.concrete_fields if field.unique)
    yield from (set(names) for names in meta.unique_together)
    for constraint in meta.total_unique_constraints:
        if constraint.deferrable is None:
            yield set(constraint.fields)

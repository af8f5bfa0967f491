"""Rows that are made once by their key, and never changed: an idempotency key as a column."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import TypeVar

from django.db import models, router, transaction

from django_idempotency.writes.recipes import insert_recipe, names_of
from django_idempotency.writes.results import UpsertResult
from django_idempotency.writes.rows import Key, Values
from django_idempotency.writes.runs import Run
from django_idempotency.writes.upserts import BATCH_SIZE, tell

M = TypeVar("M", bound=models.Model)
_ATTEMPTS = 10


def get_or_insert(
    model: type[M],
    rows: Iterable[M | Values],
    *,
    key: Iterable[str] | str,
    on_duplicate: str = "error",
    batch_size: int = BATCH_SIZE,
    using: str | None = None,
) -> UpsertResult[M]:
    """Insert rows whose key is new; answer the others with the row that is there, untouched.

    ``inserted`` has the objects given, ``unchanged`` the rows as they were found, whatever was given for them. Raises
    ValueError where the key makes no sense for the model, and where rows have the same key or none.
    """
    alias = using or router.db_for_write(model)
    started = perf_counter()
    run = Run(model, insert_recipe(model, names_of(key)), alias)
    run.entries.add(rows, on_duplicate=on_duplicate)
    with transaction.atomic(using=alias, savepoint=False):
        for batch in run.entries.batches(run.writer.batch_size(batch_size)):
            _answer(run, batch)
        tell(model, run.result, alias, started)
    return run.result


def _answer(run: Run[M], batch: dict[Key, M]) -> None:
    """Ask until every key is answered: a row in the way may be deleted before it is looked at."""
    inserted: dict[Key, M] = {}
    existing: dict[Key, M] = {}
    for _ in range(_ATTEMPTS):
        inserted |= run.insert(_without(batch, inserted, existing))
        if left := _without(batch, inserted, existing):
            existing |= run.existing(left)
        if len(inserted) + len(existing) == len(batch):
            break
    else:
        raise run.unanswered(_without(batch, inserted, existing))
    run.result.inserted.extend(inserted[key] for key in batch if key in inserted)
    run.result.unchanged.extend(existing[key] for key in batch if key in existing)


def _without(batch: dict[Key, M], *answered: dict[Key, M]) -> dict[Key, M]:
    return {key: obj for key, obj in batch.items() if not any(key in answers for answers in answered)}

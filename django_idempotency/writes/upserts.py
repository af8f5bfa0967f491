"""Rows that are written by their key, and only where they differ from what is there."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import models, router, transaction

from django_idempotency.signals import batch_answered
from django_idempotency.writes.recipes import options_of, recipe
from django_idempotency.writes.results import UpsertResult
from django_idempotency.writes.rows import Values
from django_idempotency.writes.runs import Run

M = TypeVar("M", bound=models.Model)
BATCH_SIZE = 2000


def upsert(
    model: type[M],
    rows: Iterable[M | Values],
    *,
    key: Iterable[str] | str | None = None,
    payload: Iterable[str] | str | None = None,
    guard: str | None = None,
    hash_version: int | None = None,
    version: str | None = None,
    revision: str | None = None,
    on_duplicate: str = "error",
    batch_size: int = BATCH_SIZE,
    using: str | None = None,
) -> UpsertResult[M]:
    """Insert rows, update those that differ, leave the others alone; tell which was which.

    ``rows`` are objects of the model, or mappings from its fields. All of them are written in one transaction. What is
    not given is that of the model's inner class ``Upsert``. Calls neither ``save()`` nor its signals. Raises ValueError
    where key, payload or guard make no sense for the model, and where rows have the same key or none.
    """
    asked = options_of(
        model, key=key, payload=payload, guard=guard, hash_version=hash_version, version=version, revision=revision
    )
    alias = using or router.db_for_write(model)
    started = perf_counter()
    run = Run(model, recipe(model, asked), alias)
    run.entries.add(rows, on_duplicate=on_duplicate)
    with transaction.atomic(using=alias, savepoint=False):
        for batch in run.entries.batches(run.writer.batch_size(batch_size)):
            run.upsert(batch)
        tell(model, run.result, alias, started)
    return run.result


async def aupsert(model: type[M], rows: Iterable[M | Values], **options: Any) -> UpsertResult[M]:
    """Do what ``upsert`` does, from asynchronous code."""
    return await sync_to_async(upsert)(model, rows, **options)


def tell(model: type[M], result: UpsertResult[M], alias: str, started: float) -> None:
    """Send the fact that rows were answered."""
    batch_answered.send(
        sender=model,
        using=alias,
        layer="writes",
        operation=model._meta.label,
        counts=result.counts,
        duration=perf_counter() - started,
    )

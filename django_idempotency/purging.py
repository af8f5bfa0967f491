"""What a purge does, for the command and the tasks: tables in turn, in batches that no request waits for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from django_idempotency import retention
from django_idempotency.bookkeeping import close_books
from django_idempotency.conf import settings
from django_idempotency.signals import rows_purged
from django_idempotency.stores import get_store
from django_idempotency.stores.base import Store

RECORDS = "records"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One table in one place. ``batches`` takes the size of a batch, and yields how many rows each has deleted."""

    table: str
    count_expired: Callable[[], int]
    batches: Callable[[int], Iterator[int]]


@dataclass(slots=True, kw_only=True)
class Deleted:
    """What was deleted from one table, wherever it is."""

    deleted: int = 0
    batches: int = 0


@dataclass(slots=True, kw_only=True)
class Purge:
    """What a purge has come to: ``complete`` says that nothing was left when it ended."""

    tables: dict[str, Deleted] = field(default_factory=dict)
    complete: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can say."""
        return asdict(self)


def table_names() -> list[str]:
    """Return the names of all tables that are purged."""
    return [RECORDS, *(kept.name for kept in retention.registered())]


def count_expired(*, store: str | None = None, only: Collection[str] = ()) -> dict[str, int]:
    """Return how many rows a purge would delete now, by table."""
    counts: Counter[str] = Counter()
    for step in steps(store=store, only=only):
        counts[step.table] += step.count_expired()
    return dict(counts)


def purge(
    *,
    store: str | None = None,
    only: Collection[str] = (),
    batch_size: int = 1000,
    pause: float = 0.05,
    max_seconds: float | None = None,
    on_batch: Callable[[str, int], None] = lambda table, size: None,
) -> Purge:
    """Close the books, then delete what has expired, in all stores or in one; ``only`` names tables.

    Sends ``rows_purged`` for each table.

    ``pause`` is slept after each batch; ``max_seconds`` ends the purge after the batch that reaches them.
    """
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    done = Purge()
    for alias in sorted(_aliases(store)):
        close_books(alias)
    try:
        for step in steps(store=store, only=only):
            deleted = done.tables.setdefault(step.table, Deleted())
            for size in step.batches(batch_size) if done.complete else ():
                deleted.deleted += size
                deleted.batches += 1
                on_batch(step.table, size)
                if deadline is not None and time.monotonic() >= deadline:
                    done.complete = False
                    break
                time.sleep(pause)
    finally:
        _tell(done)
    return done


def _tell(done: Purge) -> None:
    """Tell what was deleted, also where the rest could not be: those rows are gone for good."""
    for table, counts in done.tables.items():
        if counts.deleted:
            layer = "http" if table == RECORDS else table
            rows_purged.send(Purge, using=None, layer=layer, operation="purge", table=table, count=counts.deleted)


def steps(*, store: str | None = None, only: Collection[str] = ()) -> list[Step]:
    """Return what is to be done, in this order: the records of the stores, then the tables that are registered."""
    stores = _stores([store] if store else settings.STORES)
    aliases = _aliases(store) if store else None
    every = [*_of_records(stores), *_of_registered(aliases)]
    return [step for step in every if not only or step.table in only]


def _of_records(stores: Iterable[Store]) -> Iterator[Step]:
    for store in stores:
        yield Step(
            table=RECORDS,
            count_expired=store.count_expired,
            batches=lambda batch_size, store=store: store.purge(batch_size=batch_size),  # type: ignore[misc]
        )


def _of_registered(aliases: Collection[str] | None) -> Iterator[Step]:
    """Yield a step for each table and database; with a store named, for those of its database alone."""
    for kept in retention.registered():
        for alias in kept.databases():
            if aliases is None or alias in aliases:
                yield Step(
                    table=kept.name,
                    count_expired=partial(kept.count_expired, alias),
                    batches=lambda batch_size, kept=kept, alias=alias: kept.purge(  # type: ignore[misc]
                        alias, batch_size=batch_size
                    ),
                )


def _stores(names: Iterable[str]) -> list[Store]:
    """Return the stores of these names, those that share a table once."""
    by_place: dict[str, Store] = {}
    for name in names:
        store = get_store(name)
        by_place.setdefault(f"database {store.alias}" if store.alias else f"store {name}", store)
    return list(by_place.values())


def _aliases(store: str | None) -> set[str]:
    return {one.alias for one in _stores([store] if store else settings.STORES) if one.alias}


def store_aliases() -> set[str]:
    """Return the databases in which stores keep records."""
    return _aliases(None)

"""What expires: each room registers its tables here, and one command purges them all.

Whether a row still counts is decided where it is read; a purge only saves space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connections, models, router, transaction

#: Where a PostgreSQL transaction has set this to ``on`` for itself, it may delete from append-only tables.
PURGE_SETTING = "idempotency.purge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How the rows of one model are purged.

    ``expired(alias)`` returns the rows whose time is over, by the clock of that database if it has one; it is asked
    anew for every batch. ``order_by`` names the field whose index finds the oldest. ``aliases`` are the databases that
    have the table: by default the one that the routers write it to.
    """

    name: str
    model: type[models.Model]
    expired: Callable[[str], models.QuerySet[Any]]
    order_by: str
    aliases: Callable[[], Iterable[str]] | None = None

    def databases(self) -> list[str]:
        """Return the aliases of the databases that have the table."""
        return sorted(set(self.aliases())) if self.aliases else [router.db_for_write(self.model)]

    def count_expired(self, alias: str) -> int:
        """Return how many rows ``purge`` would delete now."""
        return self.expired(alias).count()

    def purge(self, alias: str, *, batch_size: int) -> Iterator[int]:
        """Delete in batches, oldest first, each in a transaction that waits for nobody; yield their sizes."""
        while size := purge_batch(self.expired(alias), order_by=self.order_by, alias=alias, size=batch_size):
            yield size


def purge_batch(expired: models.QuerySet[Any], *, order_by: str, alias: str, size: int) -> int:
    """Delete up to ``size`` of these rows, but none that another transaction has locked. Sends no signals.

    Raises RuntimeError within a transaction.
    """
    batch = expired.using(alias).select_for_update(skip_locked=True).order_by(order_by).values("pk")[:size]
    with transaction.atomic(using=alias, durable=True):
        if connections[alias].vendor == "postgresql":
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT set_config(%s, 'on', true)", [PURGE_SETTING])
        # Not delete(): append-only tables refuse it, and it loads the rows first where somebody listens to deletions.
        rows: Any = models.QuerySet(expired.model, using=alias).filter(pk__in=batch)
        return int(rows._raw_delete(alias))


_retentions: dict[str, Retention] = {}


def register(retention: Retention) -> None:
    """Have a table purged with the others; another one of the same name is replaced."""
    _retentions[retention.name] = retention


def registered() -> tuple[Retention, ...]:
    """Return what has been registered, in that order."""
    return tuple(_retentions.values())

"""Pages of large tables: rows along an index, newest first, at a cost that does not grow with the table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Model, Q, QuerySet

#: A filter that no index serves looks through so many rows at a time.
DEPTH = 20_000
#: Counts go no further.
COUNTED = 10_000


class WrongCursor(ValueError):
    """The text is not a place in a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in a list: after the row of this value and id, or after all rows of this value."""

    value: Any
    pk: int | None = None

    def __str__(self) -> str:
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        return f"{value}~{'' if self.pk is None else self.pk}"

    @classmethod
    def read(cls, text: str, field: str) -> Cursor:
        """Read what ``str`` has written in a list along ``field``. Raises WrongCursor."""
        value, _, pk = text.partition("~")
        try:
            return cls(value=_id(value) if field == "id" else _time(value), pk=_id(pk) if pk else None)
        except ValueError as error:
            raise WrongCursor from error

    def following(self, field: str) -> Q:
        """Return the condition of the rows after it, led by one that an index serves."""
        if self.pk is None:
            return Q(**{f"{field}__lt": self.value})
        later = Q(**{f"{field}__lt": self.value}) | Q(**{field: self.value, "pk__lt": self.pk})
        return Q(**{f"{field}__lte": self.value}) & later


def _id(text: str) -> int:
    if not 0 <= (number := int(text)) < 2**63:
        raise ValueError
    return number


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if (moment.tzinfo is not None) != settings.USE_TZ:
        raise ValueError
    return moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows, where to go on, and back to which value they were searched if not all matched."""

    rows: list[Any]
    older: Cursor | None = None
    searched_to: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Rows within a condition that an index serves, ordered by ``field``, the last column of that index.

    ``is_narrowed`` says that ``rows`` are filtered by more than the index knows.
    """

    rows: QuerySet[Any]
    within: Q
    field: str
    is_narrowed: bool

    def page(self, after: Cursor | None, size: int) -> Page:
        """Return the next rows; of narrowed ones those among the next ``DEPTH``."""
        bound = self._bound(after) if self.is_narrowed else None
        condition = self._from(after)
        if bound is not None:
            condition &= Q(**{f"{self.field}__gte": bound})
        found = list(self.rows.filter(condition).order_by(*self._order)[: size + 1])
        if len(found) > size:
            last = found[size - 1]
            return Page(rows=found[:size], older=Cursor(value=getattr(last, self.field), pk=last.pk))
        return Page(rows=found, older=None if bound is None else Cursor(value=bound), searched_to=bound)

    def count(self) -> int:
        """Return the number of rows that the index knows of, ``COUNTED`` + 1 at most."""
        return self._all.filter(self.within).order_by().values("pk")[: COUNTED + 1].count()

    def _bound(self, after: Cursor | None) -> Any:
        stretch = self._all.filter(self._from(after)).order_by(f"-{self.field}").values_list(self.field, flat=True)
        return next(iter(stretch[DEPTH : DEPTH + 1]), None)

    def _from(self, after: Cursor | None) -> Q:
        return self.within & after.following(self.field) if after else self.within

    @property
    def _all(self) -> QuerySet[Any]:
        return QuerySet(self.rows.model, using=self.rows.db)

    @property
    def _order(self) -> tuple[str, ...]:
        return ("-pk",) if self.field == "id" else (f"-{self.field}", "-pk")


def estimate(model: type[Model], alias: str) -> int | None:
    """Return how many rows the database thinks a table has, None where it does not think so (SQLite)."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)",
            [connection.ops.quote_name(model._meta.db_table)],
        )
        row = cursor.fetchone()
    return int(row[0]) if row and row[0] > COUNTED else None

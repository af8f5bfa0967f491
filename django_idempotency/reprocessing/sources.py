"""What a projection is built from: rows in an order that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Protocol

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from django_idempotency.reprocessing.positions import Position, PositionType
from django_idempotency.reprocessing.snapshots import TransactionIdField, settled_before


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows, and the position of the source behind them."""

    rows: Sequence[Any]
    position: Position


class Source(Protocol):
    """What can be read from a position on.

    ``is_repeating`` tells that a catch-up reads rows again which an earlier one has read.
    """

    is_repeating: bool

    @property
    def positions(self) -> PositionType:
        """What positions are."""

    def batches(self, after: Position | None, *, size: int, is_first: bool, is_last: bool) -> Iterator[Batch]:
        """Yield what comes after a position, each batch read when it is asked for, within the transaction it is for.

        ``is_first``: at the beginning of a catch-up, not when it goes on. ``is_last``: nobody can commit what
        would be read; whatever can be seen is to be read.
        """


class QuerySetSource:
    """Rows of a queryset in the order of the fields ``by``, of which no two rows have the same values.

    With a TransactionIdField in front, such as ``by=("transaction", "id")``, no row is read before all rows that
    come before it can be seen (PostgreSQL). With a datetime in front, ``lag`` is how late a row may be seen: each
    catch-up reads that far back again, and ``apply`` must bear repetition. Else rows must be committed in order.
    """

    def __init__(
        self, queryset: models.QuerySet[Any], *, by: Sequence[str] = ("pk",), lag: timedelta | None = None
    ) -> None:
        self._queryset, self.by, self.lag = queryset, tuple(by), lag
        self.is_repeating = lag is not None

    @property
    def positions(self) -> PositionType:
        """The types of the fields. Raises FieldDoesNotExist, or TypeError if one cannot be a position."""
        return PositionType.of(tuple(_type_of(field) for field in self.fields))

    @property
    def fields(self) -> list[models.Field[Any, Any]]:
        """The fields that rows are ordered by. Raises FieldDoesNotExist."""
        meta = self._queryset.model._meta
        found = [meta.pk if name == "pk" else meta.get_field(name) for name in self.by]
        if missing := [name for name, field in zip(self.by, found, strict=True) if not isinstance(field, models.Field)]:
            raise FieldDoesNotExist(f"{missing[0]} is no column.")
        return found

    def batches(self, after: Position | None, *, size: int, is_first: bool, is_last: bool) -> Iterator[Batch]:
        """Yield pages, each from where the last one ended."""
        rows = self._queryset.order_by(*self.by)
        if is_first and self.lag and after:
            first: Any = after[0]  # type: ignore[index]
            after = (first - self.lag,)
        if isinstance(self.fields[0], TransactionIdField) and not is_last:
            rows = rows.filter(**{f"{self.by[0]}__lt": settled_before(rows.db)})
        while page := list(self._behind(rows, after)[:size]):
            after = tuple(getattr(page[-1], name) for name in self.by)
            yield Batch(page, after)

    def _behind(self, rows: models.QuerySet[Any], after: Position | None) -> models.QuerySet[Any]:
        """Narrow down to what comes after a position; after all of a shorter one means from its first row on."""
        if not isinstance(after, tuple):
            return rows
        if len(after) < len(self.by):
            return rows.filter(**{f"{self.by[0]}__gte": after[0]})
        behind = models.Q()
        for depth, name in enumerate(self.by):
            same = dict(zip(self.by[:depth], after, strict=False))
            behind |= models.Q(**same, **{f"{name}__gt": after[depth]})
        # The first condition follows from the others, but is what an index is searched by.
        return rows.filter(behind, **{f"{self.by[0]}__gte": after[0]})


class IterableSource:
    """What ``read(after)`` yields: pairs of a position and a row, in order, behind a position or from the start.

    For files and foreign services; ``type`` is that of the positions, as of a Watermark.
    """

    is_repeating = False

    def __init__(self, read: Callable[[Any], Iterable[tuple[Position, Any]]], *, type: Any = int) -> None:  # noqa: A002
        self._read, self._positions = read, PositionType.of(type)

    @property
    def positions(self) -> PositionType:
        """What was declared."""
        return self._positions

    def batches(self, after: Position | None, *, size: int, is_first: bool, is_last: bool) -> Iterator[Batch]:
        """Yield what is read, so many rows at a time."""
        items = iter(self._read(after))
        while batch := list(islice(items, size)):
            yield Batch([row for _, row in batch], batch[-1][0])


def _type_of(field: models.Field[Any, Any]) -> type:
    if isinstance(field, TransactionIdField | models.IntegerField):
        return int
    if isinstance(field, models.DateTimeField):
        return datetime
    if isinstance(field, models.CharField | models.TextField):
        return str
    raise TypeError(f"Rows cannot be ordered by {field.name}, which is no datetime, integer or text.")

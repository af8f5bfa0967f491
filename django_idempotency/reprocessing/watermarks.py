"""Watermarks: how far a source has been worked through, moved on in the transaction of what was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db import DatabaseError, connections, models, router, transaction

from django_idempotency.reprocessing.clocks import now
from django_idempotency.reprocessing.errors import WatermarkBusy, WatermarkMoved, WatermarkTypeChanged
from django_idempotency.reprocessing.locks import is_conflict
from django_idempotency.reprocessing.models import WatermarkRow
from django_idempotency.reprocessing.positions import Position, PositionType, is_before
from django_idempotency.reprocessing.snapshots import next_transaction, settled_before
from django_idempotency.signals import decision_made, operation_answered

#: A position, what returns one when it is called, or an expression for the database, such as ``Now()``.
Bound = Position | Callable[[], Position] | models.Expression


class Held:
    """A watermark whose row is locked until the transaction ends."""

    def __init__(self, watermark: Watermark, row: WatermarkRow) -> None:
        self._watermark, self._row = watermark, row
        self.position = watermark.positions.load(row.position)

    def move(self, to: Position | None, *, back: bool = False) -> bool:
        """Move on to a position; tell whether it lies ahead. Raises WatermarkMoved if another one has moved it."""
        if not back and not is_before(self.position, to):
            return False
        kind, alias = self._watermark.positions, self._watermark.alias
        seen = WatermarkRow.objects.using(alias).filter(pk=self._row.pk, moves=self._row.moves)
        self._row.moves += 1
        if not seen.update(position=kind.dump(to), kind=kind.name, moves=self._row.moves, moved_at=now(alias)):
            raise WatermarkMoved
        self.position = to
        return True


class Window:
    """What is to be worked through: from ``low``, included, to ``high``, excluded; ``low`` is None at the start."""

    def __init__(self, low: Position | None, high: Position | None, *, start: Position | None, kind: PositionType):
        self.low, self.high = low, high
        self._start, self._kind = start, kind

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not is_before(self.low, self.high)

    def end_at(self, position: Position) -> None:
        """End the window early: what lies at the position and after it is for the next one. Raises ValueError."""
        self._kind.check(position)
        if is_before(position, self._start) or is_before(self.high, position):
            raise ValueError(f"{position!r} lies outside of the window.")
        self.high = position


class Watermark:
    """How far the source of this name has been worked through, for each partition of it.

    ``type`` is that of its positions: ``datetime``, ``int``, ``str`` or a tuple such as ``(datetime, int)``. With
    ``strategy="xmin"`` (PostgreSQL) positions are transaction ids, to be compared with a ``TransactionIdField``.
    ``using`` is the alias of the database that has both the watermark and what a window writes.
    """

    def __init__(
        self,
        name: str,
        *,
        type: Any = datetime,  # noqa: A002
        partition: str = "",
        strategy: Literal["position", "xmin"] = "position",
        using: str | None = None,
    ) -> None:
        if strategy not in ("position", "xmin"):
            raise ValueError(f'The strategy of a watermark is "position" or "xmin", not {strategy!r}.')
        self.name, self.partition, self.strategy = name, partition, strategy
        self.positions = PositionType.of(int if strategy == "xmin" else type)
        self._using = using

    @property
    def alias(self) -> str:
        """The database that has the watermark."""
        return self._using or router.db_for_write(WatermarkRow)

    @property
    def position(self) -> Position | None:
        """Where it stands; None at the start."""
        kept = self._rows.values_list("position", flat=True).first()
        return self.positions.load(kept or "")

    @contextmanager
    def window(
        self, *, lag: timedelta | int | None = None, upto: Bound | None = None, wait: bool = True
    ) -> Iterator[Window]:
        """Open a transaction with what is new; at its end the watermark moves on to the window's end.

        ``upto`` is the end of the window: by default now, or with ``xmin`` the oldest transaction that still runs.
        ``lag`` is how late rows may appear: the window begins that much earlier than the last one ended, and what
        it does must bear repetition. An exception leaves everything as it was. Raises WatermarkBusy if another
        runner has the window open and ``wait`` is False.
        """
        self._check(lag, upto)
        started = time.monotonic()
        with self.hold(wait=wait) as held:
            start = held.position
            high = self._bound(upto)
            window = Window(_earlier(start, lag), high, start=start, kind=self.positions)
            if not is_before(start, high):
                window.low = window.high = start
            yield window
            if held.move(window.high):
                self._tell_answered(time.monotonic() - started)

    @contextmanager
    def hold(self, *, wait: bool = True) -> Iterator[Held]:
        """Open a transaction that nobody else can hold this watermark in. Raises WatermarkBusy unless it may wait."""
        with ExitStack() as stack:
            try:
                stack.enter_context(transaction.atomic(using=self.alias))
                row = self._locked(wait)
            except DatabaseError as error:
                if is_conflict(error) and not wait:
                    raise WatermarkBusy from error
                raise
            yield Held(self, row)

    def rewind(self, to: Position | None, *, reason: str, actor: str) -> None:
        """Set the watermark by hand, to None for the start; what lies behind it will be worked through again."""
        if not (reason and actor):
            raise ValueError("A rewind needs a reason and an actor.")
        self.positions.dump(to)
        with transaction.atomic(using=self.alias):
            self._rows.exclude(kind=self.positions.name).update(kind=self.positions.name, position="")
            with self.hold() as held:
                held.move(to, back=True)
                decision_made.send(
                    sender=Watermark,
                    using=self.alias,
                    layer="reprocessing",
                    operation=self.name,
                    scope=self.partition,
                    digest=b"",
                    action="rewound",
                    actor=actor,
                    reason=reason,
                )

    def lag(self, head: Position | None = None) -> timedelta | int | None:
        """Return how far it is behind: time for datetimes, a number for integers and transactions.

        ``head`` is where the source ends: by default now, or the next transaction. None if that cannot be told:
        at the start, for texts, and for integers without a ``head``.
        """
        position, head = _first(self.position), _first(self._head() if head is None else head)
        if isinstance(position, datetime) and isinstance(head, datetime):
            return head - position
        return head - position if isinstance(position, int) and isinstance(head, int) else None

    @property
    def _rows(self) -> models.QuerySet[WatermarkRow]:
        return WatermarkRow.objects.using(self.alias).filter(name=self.name, partition=self.partition)

    def _head(self) -> Position | None:
        if self.strategy == "xmin":
            return next_transaction(self.alias)
        return now(self.alias) if self.positions.types[0] is datetime else None

    def _check(self, lag: timedelta | int | None, upto: Bound | None) -> None:
        if self.strategy == "xmin":
            if lag is not None or upto is not None:
                raise ValueError("The transactions that run bound the window: neither lag nor upto is needed.")
        elif upto is None and self.positions.types[0] is not datetime:
            raise ValueError(f"A window over positions of type {self.positions.name} needs its end: upto.")

    def _bound(self, upto: Bound | None) -> Position:
        """Return the window's end, asked for while the row is locked: who had to wait works on from where it is now."""
        if self.strategy == "xmin":
            return settled_before(self.alias)
        if upto is None:
            end: Any = now(self.alias)
            return (end,) if self.positions.is_tuple else end
        end = upto() if callable(upto) else upto
        if isinstance(end, models.Expression):
            end = self._rows.values_list(end, flat=True).get()
        position: Position = end
        self.positions.check(position)
        return position

    def _locked(self, wait: bool) -> WatermarkRow:
        if connections[self.alias].vendor == "sqlite":
            # A transaction that begins with a read could not wait for the write lock; this one begins with a write.
            self._rows.update(name=self.name)
        rows = self._rows.select_for_update(nowait=not wait)
        row = rows.first()
        if row is None:
            new = WatermarkRow(name=self.name, partition=self.partition, kind=self.positions.name)
            WatermarkRow.objects.using(self.alias).bulk_create([new], ignore_conflicts=True)
            row = rows.get()
        if row.kind != self.positions.name:
            raise WatermarkTypeChanged(f"{self.name}: positions were of type {row.kind}, not {self.positions.name}.")
        return row

    def _tell_answered(self, duration: float) -> None:
        operation_answered.send(
            sender=Watermark,
            using=self.alias,
            layer="reprocessing",
            operation=self.name,
            outcome="executed",
            scope=self.partition,
            digest=b"",
            fingerprint=b"",
            outcome_hash=b"",
            attempt=1,
            duration=duration,
            status=None,
            reason="",
        )


def _earlier(position: Position | None, lag: timedelta | int | None) -> Position | None:
    """Return a position that much before another one; a tuple by its first part."""
    if position is None or lag is None:
        return position
    first: Any = _first(position)
    try:
        earlier = first - lag
    except TypeError as error:
        raise TypeError(f"A lag of {lag!r} cannot be taken from {first!r}.") from error
    return (earlier,) if isinstance(position, tuple) else earlier


def _first(position: Position | None) -> Any:
    return position[0] if isinstance(position, tuple) else position

"""What a monitor asks the database for: each room registers its gauges here, metrics and ``idempotency_status`` read.

Nothing is looked up before somebody asks. What a room reads must stay fast on large tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """A figure that goes up and down: its name without prefix, what it tells, and the labels beside ``database``.

    Labels have few values: never a key, a digest or a business key.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a gauge shows now, for one value each of its labels."""

    gauge: Gauge
    values: tuple[str, ...] = ()
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The gauges of a room. ``read(alias)`` asks one database, and may raise DatabaseError; ``aliases`` names them."""

    name: str
    gauges: tuple[Gauge, ...]
    read: Callable[[str], Iterable[Reading]]
    aliases: Callable[[], Iterable[str]]

    def readings(self) -> Iterator[tuple[str, Reading]]:
        """Ask each database; yield its alias with what it says. Raises DatabaseError."""
        for alias in sorted(set(self.aliases())):
            for reading in self.read(alias):
                yield alias, reading


_boards: dict[str, Board] = {}


def register(board: Board) -> None:
    """Have the gauges of a room shown with the others; another board of the same name is replaced."""
    _boards[board.name] = board


def registered() -> tuple[Board, ...]:
    """Return what has been registered, in that order."""
    return tuple(_boards.values())

"""Positions of a watermark: a datetime, an integer or a text, or a tuple of these, and how they are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

Scalar: TypeAlias = datetime | int | str
Position: TypeAlias = Scalar | tuple[Scalar, ...]

_LOADERS: dict[type, Callable[[Any], Scalar]] = {
    datetime: datetime.fromisoformat,
    int: int,
    str: str,
}
_NAMES = {datetime: "datetime", int: "integer", str: "text"}


@dataclass(frozen=True, slots=True)
class PositionType:
    """What the positions of one watermark are: each a value, or each a tuple, of these types."""

    types: tuple[type, ...]
    is_tuple: bool

    @classmethod
    def of(cls, declared: Any) -> PositionType:
        """Return the type that was declared: ``datetime``, ``int``, ``str`` or a tuple of them. Raises TypeError."""
        types = declared if isinstance(declared, tuple) else (declared,)
        if not types or any(type_ not in _LOADERS for type_ in types):
            raise TypeError(f"A position is a datetime, an int, a str or a tuple of these, not {declared!r}.")
        return cls(types, isinstance(declared, tuple))

    @property
    def name(self) -> str:
        """The type in words, as it is kept beside the positions."""
        return ", ".join(_NAMES[type_] for type_ in self.types)

    def check(self, position: Position) -> None:
        """Raise TypeError unless this is such a position. A tuple may end early: it comes before all that go on."""
        parts = self._parts(position)
        if self.is_tuple is not isinstance(position, tuple) or not 0 < len(parts) <= len(self.types):
            raise TypeError(f"{position!r} is no position of type {self.name}.")
        for part, type_ in zip(parts, self.types, strict=False):
            if not isinstance(part, type_) or isinstance(part, bool):
                raise TypeError(f"{position!r} is no position of type {self.name}.")

    def dump(self, position: Position | None) -> str:
        """Return a position as it is kept; empty for none."""
        if position is None:
            return ""
        self.check(position)
        return json.dumps([_dumped(part) for part in self._parts(position)], ensure_ascii=False)

    def load(self, kept: str) -> Position | None:
        """Return the position that was kept."""
        if not kept:
            return None
        parts = tuple(_LOADERS[type_](part) for type_, part in zip(self.types, json.loads(kept), strict=False))
        return parts if self.is_tuple else parts[0]

    def _parts(self, position: Position) -> tuple[Scalar, ...]:
        return position if isinstance(position, tuple) else (position,)


def is_before(first: Position | None, second: Position | None) -> bool:
    """Tell whether the first comes before the second; None is the start. Texts compare by their code points."""
    if first is None or second is None:
        return first is None and second is not None
    earlier: Any = first
    return bool(earlier < second)


def _dumped(part: Scalar) -> int | str:
    if isinstance(part, datetime):
        return (part.astimezone(UTC) if part.tzinfo else part).isoformat()
    return part

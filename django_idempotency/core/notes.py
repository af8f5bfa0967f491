"""Notes: what is kept beside an outcome for those who listen, and never replayed.

They travel as headers with names of their own, so that every store keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Headers = tuple[tuple[str, str], ...]

PREFIX = "idempotency-note-"

_writers: dict[str, Callable[[], str]] = {}


def register(name: str, writer: Callable[[], str]) -> None:
    """Have ``writer`` asked for a note when an outcome is captured; an empty one is not kept."""
    _writers[name] = writer


def unregister(name: str) -> None:
    """Keep no such note any more; those that are kept can still be read."""
    _writers.pop(name, None)


def take() -> Headers:
    """Return the notes of this moment, as headers to keep with an outcome."""
    taken = ((PREFIX + name, writer()) for name, writer in _writers.items())
    return tuple((name, value) for name, value in taken if value)


def read(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the notes among the headers of an outcome, by name."""
    return {name.removeprefix(PREFIX): value for name, value in headers if name.startswith(PREFIX)}


def without(headers: Headers) -> Headers:
    """Return the headers that are replayed, and that the hash of an outcome covers."""
    return tuple(header for header in headers if not header[0].startswith(PREFIX))

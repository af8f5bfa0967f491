"""Writes that may be repeated: upserts by business key, and windows for events without a key."""

from importlib import import_module
from typing import Any

from django_idempotency.writes.inserts import get_or_insert
from django_idempotency.writes.mixins import UpsertMixin, UpsertQuerySet
from django_idempotency.writes.results import Outcome, UpsertResult
from django_idempotency.writes.upserts import aupsert, upsert

_WINDOWS = ("DedupWindow", "Split")

__all__ = [
    "DedupWindow",
    "Outcome",
    "Split",
    "UpsertMixin",
    "UpsertQuerySet",
    "UpsertResult",
    "aupsert",
    "get_or_insert",
    "upsert",
]


def __getattr__(name: str) -> Any:
    """Import a window when it is asked for: it needs its models, which may not be loaded yet."""
    if name in _WINDOWS:
        return getattr(import_module(f"{__name__}.windows"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

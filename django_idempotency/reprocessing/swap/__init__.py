"""How another version becomes live: in one transaction, under a lock that is waited for within bounds."""

from __future__ import annotations

from django.db import connections

from django_idempotency.reprocessing.swap.base import Swap
from django_idempotency.reprocessing.swap.rename import RenameSwap, SqliteSwap
from django_idempotency.reprocessing.swap.view import ViewSwap

__all__ = ["Swap", "is_by_name", "kind_of_swap"]


def kind_of_swap(alias: str, strategy: str) -> type[Swap]:
    """Return how a strategy is carried out on a database; SQLite cannot write to views, so names are swapped there."""
    if connections[alias].vendor != "postgresql":
        return SqliteSwap
    return RenameSwap if strategy == "rename" else ViewSwap


def is_by_name(alias: str, strategy: str) -> bool:
    """Tell whether the live version is a table, which has the name itself."""
    return kind_of_swap(alias, strategy) is not ViewSwap

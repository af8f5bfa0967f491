"""What a swap has to know and to do, whichever way it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connections

from django_idempotency.reprocessing import tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A version that is to take the place of the live one. ``old_table`` is empty where nothing is live."""

    alias: str
    name: str
    old_table: str
    old_version: int
    new_table: str
    new_version: int
    columns: tuple[str, ...]

    def prepare(self) -> None:
        """Do what need not keep anybody out, before the lock, in the transaction that takes it."""

    def lock(self) -> None:
        """Keep everybody out until the transaction ends."""
        raise NotImplementedError

    def refusals(self) -> list[str]:
        """Return what would not follow the swap, in sentences."""
        raise NotImplementedError

    def repairs(self) -> list[str]:
        """Return what the swap carries over beside the rows, in sentences."""
        return []

    def run(self) -> None:
        """Swap, within a transaction that holds the lock."""
        raise NotImplementedError

    @property
    def retired_table(self) -> str:
        """Where the rows that were live are after the swap."""
        return self.old_table

    @property
    def live_table(self) -> str:
        """Where the rows that are live are after the swap."""
        return self.new_table

    def quote(self, name: str) -> str:
        """Return a name as SQL takes it."""
        return str(connections[self.alias].ops.quote_name(name))

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute(query, params or None)
            return list(cursor.fetchall())

    def execute(self, *statements: str) -> None:
        """Run statements."""
        tables.execute(self.alias, *statements)

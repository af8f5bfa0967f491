"""The live version is what a view points to (PostgreSQL)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django_idempotency.reprocessing import tables
from django_idempotency.reprocessing.swap import catalogue, grants, names
from django_idempotency.reprocessing.swap.base import Swap

_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod) || ' ' || attcollation FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_OPTIONS = "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = to_regclass(%s)"


class ViewSwap(Swap):
    """Points the view to another table; what reads the view follows, and grants stay.

    What is known once the lock is held is not asked for twice: everybody waits meanwhile.
    """

    def prepare(self) -> None:
        """Let the new table belong to whom the old one does."""
        if self.old_table:
            grants.copy(self)

    def lock(self) -> None:
        """Lock the view, which locks the table behind it, too."""
        if self._has_view:
            self.execute(f"LOCK TABLE {self.quote(self.name)} IN ACCESS EXCLUSIVE MODE")

    def refusals(self) -> list[str]:
        """Return what a view that has to be dropped would take along; one that is replaced keeps everything."""
        if self._kind not in ("", "v"):
            return [
                f'{self.name} is not a view: take strategy="rename", or rename the table and promote again, '
                "which creates the view."
            ]
        if not self._kind or self._is_replaceable:
            return []
        why = "and the view has to be dropped, since columns can only be appended to it; drop this before"
        dependents = [*catalogue.dependent_views(self, self.name)]
        dependents += [f"trigger {name}" for name in catalogue.triggers(self, self.name)]
        return [f"The {dependent} depends on {self.name}, {why}." for dependent in dependents]

    def repairs(self) -> list[str]:
        """Tell what is carried over."""
        if self._has_view and not self._is_replaceable:
            return [f"The view {self.name} is dropped and created anew, with its owner, options and grants."]
        return []

    def run(self) -> None:
        """Point to the new table."""
        if self.old_table:
            names.continue_sequences(self)
        options = self._options
        if not self._has_view or self._is_replaceable:
            self.execute(self._create(self._columns, options))
            return
        owner, wanted = grants.owner(self, self.name), grants.grants(self, self.name)
        self.execute(f"DROP VIEW {self.quote(self.name)}", self._create(list(self.columns), options))
        grants.give(self, self.name, owner_is=owner, wanted=wanted)

    def _create(self, columns: list[str], options: str) -> str:
        selected = ", ".join(map(self.quote, columns))
        having = f" WITH ({options})" if options else ""
        return (
            f"CREATE OR REPLACE VIEW {self.quote(self.name)}{having} AS "
            f"SELECT {selected} FROM {self.quote(self.new_table)}"
        )

    @cached_property
    def _kind(self) -> str:
        return tables.kind(self.alias, self.name)

    @property
    def _has_view(self) -> bool:
        return self._kind == "v"

    @property
    def _columns(self) -> list[str]:
        """The columns in the order that the view has, then new ones."""
        present = list(self._present)
        return present + [column for column in self.columns if column not in present]

    @cached_property
    def _is_replaceable(self) -> bool:
        new = self._shape(self.new_table)
        return all(column in self.columns and new.get(column) == of for column, of in self._present.items())

    @cached_property
    def _present(self) -> dict[str, Any]:
        return self._shape(self.name)

    @property
    def _options(self) -> str:
        found = self.rows(_OPTIONS, self.quote(self.name))
        return str(found[0][0] or "") if found else ""

    def _shape(self, relation: str) -> dict[str, Any]:
        return dict(self.rows(_COLUMNS, self.quote(relation)))

"""The live version is the table that has the name."""

from __future__ import annotations

from django_idempotency.reprocessing import tables
from django_idempotency.reprocessing.swap import catalogue, grants, names
from django_idempotency.reprocessing.swap.base import Swap

_SQLITE_REFERENCES = """
SELECT 'foreign key of ' || child.name FROM sqlite_master AS child, pragma_foreign_key_list(child.name) AS keys
WHERE child.type = 'table' AND keys."table" = %s AND child.name <> %s
UNION SELECT 'trigger ' || name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s
UNION SELECT 'view ' || name FROM sqlite_master WHERE type = 'view' AND sql LIKE %s ESCAPE '\\'
"""


class TableSwap(Swap):
    """Gives the name of the live table to another one, and that one a name with its version."""

    @property
    def retired_table(self) -> str:
        """The old table has its version in its name from now on."""
        return tables.versioned(self.name, self.old_version) if self.old_table else ""

    @property
    def live_table(self) -> str:
        """The new table has the name."""
        return self.name

    def run(self) -> None:
        """Rename both."""
        if self.old_table:
            self.rename(self.old_table, self.retired_table)
        self.rename(self.new_table, self.live_table)

    def rename(self, table: str, name: str) -> None:
        """Rename a table."""
        self.execute(f"ALTER TABLE {self.quote(table)} RENAME TO {self.quote(name)}")

    def taken(self) -> list[str]:
        """Return a sentence if the name belongs to something else."""
        if not self.old_table and tables.kind(self.alias, self.name):
            return [f"{self.name} is not a table; drop the view, and promote again."]
        return []


class RenameSwap(TableSwap):
    """On PostgreSQL: with grants, sequences, and the names of indexes and constraints."""

    def prepare(self) -> None:
        """Let the new table belong to whom the old one does."""
        if self.old_table:
            grants.copy(self)

    def lock(self) -> None:
        """Lock both tables before anything is looked at."""
        both = ", ".join(self.quote(table) for table in (self.old_table, self.new_table) if table)
        self.execute(f"LOCK TABLE {both} IN ACCESS EXCLUSIVE MODE")

    def refusals(self) -> list[str]:
        """Return what follows the table and not its name."""
        return [*catalogue.left_behind(self, self.old_table)] if self.old_table else self.taken()

    def repairs(self) -> list[str]:
        """Tell what is carried over."""
        if not self.old_table:
            return []
        owner, has = grants.owner(self, self.old_table), grants.grants(self, self.old_table)
        shown = ", ".join(sorted(f"{grant.what} to {grant.grantee}" for grant in has if grant.grantee != owner))
        sequences = [item.name for item in names.sequences(self, self.old_table)]
        return [
            f"The owner {owner} and the grants are copied: {shown or 'none'}.",
            *(f"The sequence {name} is continued." for name in sequences),
            "Indexes, constraints and sequences exchange their names.",
        ]

    def run(self) -> None:
        """Rename both tables, and what of them has a name."""
        if self.old_table:
            names.continue_sequences(self)
        super().run()
        names.exchange(self, retired=self.retired_table, live=self.live_table)


class SqliteSwap(TableSwap):
    """On SQLite: both names, in one transaction. The names of indexes keep the version that they were made for."""

    def lock(self) -> None:
        """The transaction is the only one that writes."""

    def refusals(self) -> list[str]:
        """Return what SQLite would let follow the old table."""
        if not self.old_table:
            return self.taken()
        pattern = "%" + self.old_table.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%") + "%"
        found = self.rows(_SQLITE_REFERENCES, self.old_table, self.old_table, self.old_table, pattern)
        return [f"The {name} would follow the old table; drop it." for (name,) in found]

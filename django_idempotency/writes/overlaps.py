"""What keeps the intervals of one payload from overlapping (PostgreSQL)."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

CONSTRAINT = "idempotency_dedupinterval_overlap"
# GiST compares no scalars for equality without the extension btree_gist, which not everybody may create. Ranges it
# knows: two of one number each overlap where the numbers are equal. So the digest is compared as two of 63 bits.
_HALF = "(('x' || encode(substr(digest, {}, 8), 'hex'))::bit(64)::bigint >> 1)"
_EQUAL = ", ".join(f"int8range({half}, {half}, '[]') WITH &&" for half in (_HALF.format(1), _HALF.format(9)))


class NoOverlap(Operation):
    """A migration operation that adds the exclusion constraint, without any extension; elsewhere it does nothing."""

    reduces_to_sql = True
    category = OperationCategory.SQL

    def __init__(self, name: str) -> None:
        self.name = name

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Add the constraint."""
        add = f"ADD CONSTRAINT {CONSTRAINT} EXCLUDE USING gist ({_EQUAL}, tstzrange(starts_at, ends_at) WITH &&)"
        self._alter(app_label, schema_editor, to_state, add)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Drop it."""
        self._alter(app_label, schema_editor, from_state, f"DROP CONSTRAINT {CONSTRAINT}")

    def _alter(self, app_label: str, editor: BaseDatabaseSchemaEditor, state: ProjectState, change: str) -> None:
        model: Any = state.apps.get_model(app_label, self.name)
        if editor.connection.vendor == "postgresql" and self.allow_migrate_model(editor.connection.alias, model):
            editor.execute(f"ALTER TABLE {editor.quote_name(model._meta.db_table)} {change}", params=None)

    def describe(self) -> str:
        """Tell what the operation does."""
        return f"Let the database refuse overlaps of {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's name."""
        return f"{self.name.lower()}_no_overlap"

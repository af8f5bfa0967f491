"""What keeps a table append-only against SQL that does not come through its model (PostgreSQL)."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

from django_idempotency.retention import PURGE_SETTING


class AppendOnly(Operation):
    """A migration operation that lets the database refuse UPDATE and DELETE on the table of a model.

    With ``closed_by`` the name of a field, rows may be changed until that is set. To be applied to a table that is new,
    on which nobody waits for its lock. TRUNCATE is left to the table's owner.
    """

    reduces_to_sql = True
    category = OperationCategory.SQL

    def __init__(self, name: str, closed_by: str = "") -> None:
        self.name, self.closed_by = name, closed_by

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Create the trigger and its function."""
        if table := self._table(app_label, schema_editor, to_state):
            quote = schema_editor.quote_name
            is_open = self._is_open(app_label, quote, to_state)
            trigger = quote(f"{table}_append_only")
            schema_editor.execute(
                f"CREATE FUNCTION {trigger}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF TG_OP = 'DELETE' AND current_setting('{PURGE_SETTING}', true) = 'on' THEN RETURN OLD; END IF; "
                f"{is_open}"
                "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; "
                "END $$",
                params=None,
            )
            schema_editor.execute(
                f"CREATE TRIGGER {trigger} BEFORE UPDATE OR DELETE ON {quote(table)} "
                f"FOR EACH ROW EXECUTE FUNCTION {trigger}()",
                params=None,
            )

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Drop both."""
        if table := self._table(app_label, schema_editor, from_state):
            quote = schema_editor.quote_name
            trigger = quote(f"{table}_append_only")
            schema_editor.execute(f"DROP TRIGGER {trigger} ON {quote(table)}", params=None)
            schema_editor.execute(f"DROP FUNCTION {trigger}()", params=None)

    def _is_open(self, app_label: str, quote: Any, state: ProjectState) -> str:
        """Return what lets rows be changed that are not closed yet."""
        if not self.closed_by:
            return ""
        model: Any = state.apps.get_model(app_label, self.name)
        column = quote(model._meta.get_field(self.closed_by).column)
        return f"IF TG_OP = 'UPDATE' THEN IF OLD.{column} IS NULL THEN RETURN NEW; END IF; END IF; "

    def _table(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState) -> str:
        """Return the name of the table, or nothing where it does not belong or cannot be guarded."""
        model: Any = state.apps.get_model(app_label, self.name)
        if schema_editor.connection.vendor != "postgresql":
            return ""
        is_here = self.allow_migrate_model(schema_editor.connection.alias, model)
        return str(model._meta.db_table) if is_here else ""

    def describe(self) -> str:
        """Tell what the operation does."""
        return f"Let the database refuse changes of {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's name."""
        return f"{self.name.lower()}_append_only"

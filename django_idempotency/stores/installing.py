"""The migration operation that creates the functions of the store."""

from __future__ import annotations

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

from django_idempotency.stores.functions import StoredFunction
from django_idempotency.stores.postgresql import PostgreSQL


class StoreFunctions(Operation):
    """Creates the functions that the store calls on PostgreSQL, as the code that runs the migration knows them.

    ``names`` are those that it knew when the migration was written: with other ones comes another migration. Where they
    are missing, the same statements are sent as text.
    """

    reduces_to_sql = True
    category = OperationCategory.SQL

    def __init__(self, *names: str) -> None:
        self.names = names

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the models as they are."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Create them."""
        for function in self._functions(app_label, schema_editor, to_state):
            schema_editor.execute(function.definition, params=None)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Drop them."""
        for function in self._functions(app_label, schema_editor, from_state):
            schema_editor.execute(f"DROP FUNCTION IF EXISTS {function.name}", params=None)

    def _functions(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState
    ) -> tuple[StoredFunction, ...]:
        """Return what belongs into this database."""
        connection = schema_editor.connection
        model = state.apps.get_model(app_label, "Record")
        is_here = connection.vendor == "postgresql" and self.allow_migrate_model(connection.alias, model)
        return PostgreSQL(connection).functions if is_here else ()

    def describe(self) -> str:
        """Tell what the operation does."""
        return "Create the functions of the store"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's name."""
        return "store_functions"

"""The tables of the versions of a projection: made from its model, read and written through models of their own."""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import Any

from django.apps.registry import Apps
from django.db import connections, models
from django.db.backends.utils import truncate_name

_LONGEST_NAME = 63  # in PostgreSQL
# As the introspection of Django has it, but of one relation, not of all there are.
_KIND = """
SELECT CASE WHEN relispartition THEN 'p' WHEN relkind IN ('m', 'v') THEN 'v' ELSE 't' END
FROM pg_class WHERE oid = to_regclass(%s) AND relkind IN ('f', 'm', 'p', 'r', 'v')
"""

Model = type[models.Model]


def versioned(name: str, version: int) -> str:
    """Return the name of a table, an index or a constraint that belongs to one version."""
    return truncate_name(f"{name}__v{version}", _LONGEST_NAME)


@lru_cache(maxsize=64)
def bound_to(model: Model, table: str, version: int) -> Model:
    """Return a model with the fields, managers, indexes and constraints of another one, but a table of its own.

    It is not among the models of the app, and nothing refers to it. Methods are not taken over.
    """
    registry = Apps()
    meta = type("Meta", (), {**_options(model, version), "app_label": model._meta.app_label, "apps": registry})
    meta.db_table = table  # type: ignore[attr-defined]
    for related in {field.related_model for field in model._meta.local_fields if field.is_relation}:
        registry.register_model(related._meta.app_label, related)  # type: ignore[union-attr, arg-type]
    fields = {field.name: _copied(field) for field in model._meta.local_fields}
    managers = {manager.name: copy(manager) for manager in model._meta.local_managers}
    attributes = {"__module__": model.__module__, "Meta": meta, **managers, **fields}
    return type(model.__name__, (models.Model,), attributes)


def _options(model: Model, version: int) -> dict[str, Any]:
    """Return the Meta options that shape the table; indexes are named once in a schema, so each version has its own."""
    meta = model._meta
    return {
        "managed": True,  # else Django would leave its indexes out
        "indexes": [_renamed(index, version) for index in meta.indexes],
        "constraints": [_renamed(constraint, version) for constraint in meta.constraints],
        "unique_together": meta.unique_together,
        "ordering": meta.ordering,
        "get_latest_by": meta.get_latest_by,
        "db_tablespace": meta.db_tablespace,
    }


def _renamed(named: Any, version: int) -> Any:
    clone = named.clone()
    clone.name = versioned(named.name, version)
    return clone


def _copied(field: models.Field[Any, Any]) -> models.Field[Any, Any]:
    if not field.is_relation:
        return field.clone()
    _, _, args, kwargs = field.deconstruct()
    return type(field)(*args, **{**kwargs, "related_name": "+"})


def columns(model: Model) -> list[str]:
    """Return the names of a model's columns."""
    return [str(field.column) for field in model._meta.local_concrete_fields]


def exists(alias: str, table: str) -> bool:
    """Tell whether there is a table of this name, and not a view."""
    return kind(alias, table) == "t"


def kind(alias: str, table: str) -> str:
    """Return ``t`` for a table, ``p`` for a partition, ``v`` for a view, empty if there is nothing."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_KIND, [connection.ops.quote_name(table)])
            row = cursor.fetchone()
            return str(row[0]) if row else ""
        found = connection.introspection.get_table_list(cursor)
    return next((str(relation.type) for relation in found if relation.name == table), "")


def create(alias: str, model: Model) -> None:
    """Create the table of a model, with its indexes and constraints."""
    with connections[alias].schema_editor() as editor:
        editor.create_model(model)


def execute(alias: str, *statements: str) -> None:
    """Run statements that take no parameters."""
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)

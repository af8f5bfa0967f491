"""The statements of upserts.

Django's compiler writes the INSERT with all that its fields know; what follows the values is added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import InsertQuery

from django_idempotency.writes.recipes import Field, Recipe
from django_idempotency.writes.row_payloads import is_prepared

Statement = tuple[str, list[Any]]
#: The row before the update, of which PostgreSQL tells since this version.
_TELLS_OLD_ROWS = 180000


class Writer:
    """Writes the statements of one recipe on one connection."""

    def __init__(self, recipe: Recipe, connection: BaseDatabaseWrapper) -> None:
        self._recipe, self._connection = recipe, connection
        self._meta = recipe.model._meta
        self._table = self._quote(self._meta.db_table)

    @property
    def is_told(self) -> bool:
        """Whether the statement itself tells inserted rows from updated ones."""
        return self._recipe.revision is not None or self._connection.vendor == "postgresql"

    @property
    def returned(self) -> list[Field]:
        """The fields that statements return, in this order; ``upsert`` adds a flag where ``is_told``."""
        revision = [self._recipe.revision] if self._recipe.revision else []
        return list(dict.fromkeys([*self._recipe.key, *self._recipe.primary_key, *revision]))

    def upsert(self, objs: Sequence[models.Model]) -> Statement:
        """Insert, or update where the guard lets it; return what was written, and whether it was inserted."""
        sets = [f"{self._column(field)} = EXCLUDED.{self._column(field)}" for field in self._recipe.touched]
        if revision := self._recipe.revision:
            # 1 is for inserted rows alone, whatever a column of somebody else began with.
            known = self._own(revision)
            sets.append(f"{self._column(revision)} = CASE WHEN {known} >= 1 THEN {known} + 1 ELSE 2 END")
        action = f"DO UPDATE SET {', '.join(sets)} WHERE {self._guard()}"
        flags = [self._is_inserted()] if self.is_told else []
        return self._insert(objs, action, flags)

    def insert(self, objs: Sequence[models.Model]) -> Statement:
        """Insert what is not there; return what was inserted."""
        return self._insert(objs, "DO NOTHING", [])

    @property
    def can_probe(self) -> bool:
        """Whether ``probe`` can be asked: where arrays of the keys can be sent, and a digest is all that counts."""
        types = self._connection.data_types
        return (
            self._connection.vendor == "postgresql"
            and self._recipe.hash is not None
            and self._recipe.version is None
            and all(_stored(field).get_internal_type() in types for field in self._recipe.key)
        )

    def probe(self, objs: Sequence[models.Model]) -> Statement:
        """Lock, in order, the rows that have the keys and digests of objects; return them by the places of those."""
        assert self._recipe.hash is not None
        compared = [*self._recipe.key, self._recipe.hash]
        arrays = ", ".join(f"%s::{(field.db_type(self._connection) or '').split('(')[0]}[]" for field in compared)
        names = [f"c{number}" for number in range(len(compared))]
        matches = " AND ".join(
            f"t.{self._column(field)} = o.{name}" for field, name in zip(compared, names, strict=True)
        )
        columns = ", ".join(f"t.{self._column(field)}" for field in self.returned)
        sql = (
            f"SELECT {columns}, o.place FROM unnest({arrays}) WITH ORDINALITY AS o({', '.join(names)}, place) "
            f"JOIN {self._table} AS t ON {matches} ORDER BY o.place FOR NO KEY UPDATE OF t"
        )
        keys = [[self._prepared(field, obj) for obj in objs] for field in self._recipe.key]
        return sql, [*keys, [getattr(obj, self._recipe.hash.attname) for obj in objs]]

    def select(self, fields: Iterable[Field], objs: Sequence[models.Model]) -> Statement:
        """Return these fields of the rows that have the keys of these objects."""
        key = self._recipe.key
        columns = ", ".join(map(self._own, fields))
        row = f"({', '.join(['%s'] * len(key))})"
        params = [self._prepared(field, obj) for obj in objs for field in key]
        names, rows = ", ".join(map(self._own, key)), ", ".join([row] * len(objs))
        return f"SELECT {columns} FROM {self._table} WHERE ({names}) IN (VALUES {rows})", params

    def rows(self, fields: Sequence[Field], found: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """Return rows with the values of their fields as Python has them; what follows the fields is left alone."""
        compiler = models.sql.Query(self._recipe.model).get_compiler(connection=self._connection)
        converters = compiler.get_converters([field.get_col(self._meta.db_table) for field in fields])
        return compiler.apply_converters(found, converters) if converters else iter(found)

    def batch_size(self, asked: int) -> int:
        """Return how many rows fit in a statement."""
        most = self._connection.ops.bulk_batch_size(self._recipe.columns, range(asked))
        return max(1, min(asked, most))

    def _insert(self, objs: Sequence[models.Model], action: str, flags: Sequence[str]) -> Statement:
        query = InsertQuery(self._recipe.model)
        query.insert_values(self._recipe.columns, [*objs])
        [(sql, params)] = query.get_compiler(connection=self._connection).as_sql()
        target = ", ".join(map(self._column, self._recipe.key))
        returning = ", ".join([*map(self._own, self.returned), *flags])
        suffix = f"ON CONFLICT ({target}) {action} RETURNING {returning}"
        return f"{self._with_names_quoted(sql)} {suffix}", list(params)

    def _guard(self) -> str:
        """Return when the new row takes the place of the old one: a comparison with NULL is never the answer."""
        if version := self._recipe.version:
            mine, new = self._own(version), f"EXCLUDED.{self._column(version)}"
            return f"({mine} IS NULL OR {new} > {mine})"
        compared = [self._recipe.hash] if self._recipe.hash else self._recipe.payload
        differences = (f"{self._own(field)} IS DISTINCT FROM EXCLUDED.{self._column(field)}" for field in compared)
        return f"({' OR '.join(differences)})"

    def _is_inserted(self) -> str:
        if revision := self._recipe.revision:
            return f"{self._own(revision)} = 1"
        if getattr(self._connection, "pg_version", 0) >= _TELLS_OLD_ROWS:
            return f"(old.{self._column(self._recipe.primary_key[0])} IS NULL)"
        return "(xmax = 0)"

    def _prepared(self, field: Field, obj: models.Model) -> Any:
        value = getattr(obj, field.attname)
        return value if is_prepared(field, value) else field.get_db_prep_save(value, connection=self._connection)

    def _own(self, field: Field) -> str:
        return f"{self._table}.{self._column(field)}"

    def _column(self, field: Field) -> str:
        return self._quote(field.column)

    def _quote(self, name: str | None) -> str:
        """Return a quoted name. Django leaves alone what comes quoted, but also quotes and percent signs within."""
        assert name is not None, "a field without a column"
        if not (name.startswith('"') and name.endswith('"')):
            name = '"{}"'.format(name.replace('"', '""'))
        return name.replace("%", "%%")

    def _with_names_quoted(self, sql: str) -> str:
        quote = self._connection.ops.quote_name
        names = (self._meta.db_table, *(field.column or "" for field in self._recipe.columns))
        for name in names:
            if quote(name) != self._quote(name):
                sql = sql.replace(quote(name), self._quote(name), 1)
        return sql


def _stored(field: Field) -> Field:
    return field.target_field if isinstance(field, models.ForeignKey) else field

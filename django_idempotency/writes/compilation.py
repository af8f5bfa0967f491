"""The statements of upserts.

Rows are sent to PostgreSQL as arrays. Elsewhere, and where there is an expression among them, Django's compiler writes
the INSERT with all that its fields know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql import InsertQuery

from django_idempotency.writes.arrays import Statement, can_be_sent, rows_of
from django_idempotency.writes.preparations import prepared, values_of
from django_idempotency.writes.recipes import Field, Recipe

#: The row before the update, of which PostgreSQL tells since this version.
_TELLS_OLD_ROWS = 180000


class Writer:
    """Writes the statements of one recipe on one connection."""

    def __init__(self, recipe: Recipe, connection: BaseDatabaseWrapper) -> None:
        self._recipe, self._connection = recipe, connection
        self._meta = recipe.model._meta
        self._table = self._quote(self._meta.db_table)
        marks = (*recipe.primary_key, *([recipe.revision] if recipe.revision else ()))
        #: What only the database knows of an object.
        self.settled = [field for field in dict.fromkeys(marks) if field not in recipe.key]
        #: The fields that statements return, in this order; ``upsert`` adds a flag where ``is_told``.
        self.returned = [*recipe.key, *self.settled]

    @property
    def is_told(self) -> bool:
        """Whether the statement itself tells inserted rows from updated ones."""
        return self._recipe.revision is not None or self._connection.vendor == "postgresql"

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
        """Whether ``probe`` can be asked: where the keys can be sent, and a digest is all that counts."""
        return self._sends(self._recipe.key) and self._recipe.hash is not None and self._recipe.version is None

    def probe(self, objs: Sequence[models.Model]) -> Statement | None:
        """Lock, in order, the rows that have the keys and digests of objects; return what those lack, and their places.

        None where a key is an expression.
        """
        assert self._recipe.hash is not None
        columns = ", ".join([*(f"t.{self._column(field)}" for field in self.settled), "o.place"])
        joined = self._joined([*self._recipe.key, self._recipe.hash], objs)
        if joined is None:
            return None
        return f"SELECT {columns} FROM {joined[0]} ORDER BY o.place FOR NO KEY UPDATE OF t", joined[1]

    def select(self, fields: Iterable[Field], objs: Sequence[models.Model]) -> Statement:
        """Return these fields of the rows that have the keys of these objects."""
        key = self._recipe.key
        if self._sends(key) and (joined := self._joined(key, objs)):
            columns = ", ".join(f"t.{self._column(field)}" for field in fields)
            return f"SELECT {columns} FROM {joined[0]}", joined[1]
        columns, names = ", ".join(map(self._own, fields)), ", ".join(map(self._own, key))
        rows = ", ".join([f"({', '.join(['%s'] * len(key))})"] * len(objs))
        values = [prepared(field, [getattr(obj, field.attname) for obj in objs], self._connection) for field in key]
        params = [value for row in zip(*values, strict=True) for value in row]
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
        sql, params = self._insert_arrays(objs) or self._insert_values(objs)
        target = ", ".join(map(self._column, self._recipe.key))
        returning = ", ".join([*map(self._own, self.returned), *flags])
        return f"{sql} ON CONFLICT ({target}) {action} RETURNING {returning}", params

    def _insert_arrays(self, objs: Sequence[models.Model]) -> Statement | None:
        columns = self._recipe.columns
        if not self._sends(columns):
            return None
        rows = rows_of([(field, values_of(field, objs)) for field in columns], self._connection)
        if rows is None:
            return None
        names, values = ", ".join(map(self._column, columns)), ", ".join([f"o.c{n}" for n in range(len(columns))])
        return f"INSERT INTO {self._table} ({names}) SELECT {values} FROM {rows[0]} AS o", rows[1]

    def _insert_values(self, objs: Sequence[models.Model]) -> Statement:
        query = InsertQuery(self._recipe.model)
        query.insert_values(self._recipe.columns, [*objs])
        [(sql, params)] = query.get_compiler(connection=self._connection).as_sql()
        return self._with_names_quoted(sql), list(params)

    def _joined(self, fields: Sequence[Field], objs: Sequence[models.Model]) -> Statement | None:
        """Join the values ``o`` of objects with the rows ``t`` of the table that have them."""
        columns = [(field, [getattr(obj, field.attname) for obj in objs]) for field in fields]
        rows = rows_of(columns, self._connection)
        if rows is None:
            return None
        matches = " AND ".join(f"t.{self._column(field)} = o.c{number}" for number, field in enumerate(fields))
        return f"{rows[0]} AS o JOIN {self._table} AS t ON {matches}", rows[1]

    def _sends(self, fields: Iterable[Field]) -> bool:
        return all(can_be_sent(field, self._connection) for field in fields)

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

"""Filters by a name that leads an index: the choices are found by leaps, one a name, whatever the table holds."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import connections
from django.db.models import QuerySet
from django.http import HttpRequest

_SHOWN_NAMES = 100


def names(rows: QuerySet[Any], field: str = "name") -> list[str]:
    """Return the first values of a field in their order, without reading more than one row of each."""
    connection = connections[rows.db]
    quote = connection.ops.quote_name
    table, column = quote(rows.model._meta.db_table), quote(rows.model._meta.get_field(field).column)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE leap(name) AS (SELECT min({column}) FROM {table} UNION ALL "
            f"SELECT (SELECT min(later.{column}) FROM {table} AS later WHERE later.{column} > leap.name) FROM leap "
            "WHERE leap.name IS NOT NULL) SELECT name FROM leap WHERE name IS NOT NULL LIMIT %s",
            [_SHOWN_NAMES],
        )
        return [name for (name,) in cursor.fetchall()]


class LeapFilter(admin.SimpleListFilter):
    """One of the values that the table has in ``parameter_name``, which must lead an index."""

    parameter_name: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the names."""
        return [(name, name) for name in names(model_admin.get_queryset(request), self.parameter_name)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the rows down to one name."""
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() else queryset

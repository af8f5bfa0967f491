"""The values of a column that leads an index, found by leaps: one row is read of each."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.models import QuerySet

_SHOWN = 100


def names(rows: QuerySet[Any], field: str = "name") -> list[str]:
    """Return the first values of a field in their order."""
    connection = connections[rows.db]
    quote = connection.ops.quote_name
    table, column = quote(rows.model._meta.db_table), quote(str(rows.model._meta.get_field(field).column))
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE leap(value) AS (SELECT min({column}) FROM {table} UNION ALL "
            f"SELECT (SELECT min({column}) FROM {table} AS later WHERE later.{column} > leap.value) FROM leap "
            "WHERE leap.value IS NOT NULL) SELECT value FROM leap WHERE value IS NOT NULL LIMIT %s",
            [_SHOWN],
        )
        return [name for (name,) in cursor.fetchall()]

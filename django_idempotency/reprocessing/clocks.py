"""The clock of a database, which all its clients share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connections
from django.utils import timezone


def now(alias: str) -> datetime:
    """Return the time that the database shows; that of this process on SQLite, which has no server."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return timezone.now()
    shown: datetime = fetch(alias, "SELECT statement_timestamp()")
    return shown if settings.USE_TZ else timezone.make_naive(shown)


def fetch(alias: str, query: str, *params: Any) -> Any:
    """Return the first value of the first row."""
    with connections[alias].cursor() as cursor:
        cursor.execute(query, params or None)
        row = cursor.fetchone()
    return row[0] if row else None

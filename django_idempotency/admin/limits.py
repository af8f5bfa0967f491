"""No page may keep the database busy for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connections, transaction

#: What a page's statements may take each, in milliseconds (PostgreSQL).
STATEMENT_TIMEOUT = 5000
_QUERY_CANCELED = "57014"


class TookTooLong(Exception):
    """A statement was cancelled."""


@contextmanager
def limited(alias: str) -> Iterator[None]:
    """Let each statement within take no longer than ``STATEMENT_TIMEOUT``. Raises TookTooLong."""
    try:
        with transaction.atomic(using=alias):
            if connections[alias].vendor == "postgresql":
                with connections[alias].cursor() as cursor:
                    cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(STATEMENT_TIMEOUT)])
            yield
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) == _QUERY_CANCELED:
            raise TookTooLong from error
        raise

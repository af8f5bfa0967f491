"""Which transaction wrote a row, and which transactions have all ended (PostgreSQL).

Transactions commit in another order than they draw numbers or read clocks, so that the highest number that can be
seen says nothing about the lower ones. Below the oldest transaction that still runs, nothing is to come any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext_lazy as _

from django_idempotency.reprocessing.clocks import fetch

if TYPE_CHECKING:
    _Field = models.Field[int, int]
else:
    _Field = models.Field


class CurrentTransaction(models.Func):
    """The id of the transaction that runs; 0 on SQLite, whose one writer commits in order."""

    template = "0"
    arity = 0

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Ask PostgreSQL, which has 64-bit ids that never wrap."""
        return super().as_sql(compiler, connection, template="pg_current_xact_id()", **context)


class TransactionIdField(_Field):
    """The transaction that has inserted or last saved the row, for ``strategy="xmin"``.

    ``QuerySet.update()`` and ``bulk_update()`` leave it alone, as they do with ``auto_now``; set it there to
    ``CurrentTransaction()`` by hand.
    """

    description = _("The transaction that wrote the row")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs = {"editable": False, "db_default": CurrentTransaction(), **kwargs}
        super().__init__(*args, **kwargs)

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """Return the type of the column."""
        return "xid8" if connection.vendor == "postgresql" else "bigint"

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Take the running transaction; that of an insert is the column's default."""
        return super().pre_save(model_instance, add) if add else CurrentTransaction()

    def get_prep_value(self, value: Any) -> Any:
        """Take what can be a number."""
        value = super().get_prep_value(value)
        return value if value is None or hasattr(value, "resolve_expression") else int(value)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Send PostgreSQL a text: it compares xid8 with nothing else, but reads it from one."""
        value = super().get_db_prep_value(value, connection, prepared)
        return str(value) if isinstance(value, int) and connection.vendor == "postgresql" else value

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> int | None:
        """Return a number."""
        return None if value is None else int(value)


def settled_before(alias: str) -> int:
    """Return the id below which all transactions have ended. Raises ImproperlyConfigured but on PostgreSQL."""
    _ask_for_postgresql(alias)
    return int(fetch(alias, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))


def next_transaction(alias: str) -> int:
    """Return the id that the next transaction will get. Raises ImproperlyConfigured but on PostgreSQL."""
    _ask_for_postgresql(alias)
    return int(fetch(alias, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))


def _ask_for_postgresql(alias: str) -> None:
    if connections[alias].vendor != "postgresql":
        raise ImproperlyConfigured(
            'strategy="xmin" is for PostgreSQL. SQLite has one writer at a time: an integer key is given out and '
            "committed in order there, so take that as the position."
        )

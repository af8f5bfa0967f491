"""The column of a payload's digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


def _absent(field: models.Field[Any, Any]) -> NoReturn:
    raise AttributeError("get_placeholder")


if TYPE_CHECKING:
    _BinaryField = models.BinaryField[bytes | None, bytes | None]
else:
    _BinaryField = models.BinaryField


class DigestField(_BinaryField):
    """32 bytes.

    Its placeholder is the common one. Django writes rows with a placeholder of a field's own by VALUES, with one
    parameter a value, in place of one array a column, which takes three times as long on PostgreSQL.
    """

    get_placeholder = property(_absent)
    get_placeholder_sql = property(_absent)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Return bytes as they are; both drivers take them."""
        return value

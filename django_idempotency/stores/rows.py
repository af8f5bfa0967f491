"""The record table in raw SQL: on the hot path, composing a statement through the ORM costs more than running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper
from django.utils import timezone

from django_idempotency.conf import settings
from django_idempotency.core.fingerprints import Fingerprint
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Record
from django_idempotency.stores import models

READ_FIELDS = (
    "fingerprint_version",
    "fingerprint_secret",
    "fingerprint",
    "response_status",
    "response_headers",
    "response_body",
    "expires_at",
)
WRITTEN_FIELDS = (
    "digest",
    "scope",
    "operation",
    "key",
    "fingerprint_version",
    "fingerprint_secret",
    "fingerprint",
    "status",
    "attempt",
    "response_status",
    "response_headers",
    "response_body",
    "outcome_hash",
    "duration",
)
TIME_FIELDS = ("created_at", "completed_at", "expires_at")


class RecordTable:
    """Quoted names of the table and its columns, and the statements that every dialect shares."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._quote = connection.ops.quote_name
        self.name = self._quote(models.Record._meta.db_table)

    def column(self, field: str) -> str:
        """Return the quoted column of a field."""
        column: str = models.Record._meta.get_field(field).column  # type: ignore[union-attr, assignment]
        return self._quote(column)

    def columns(self, fields: Sequence[str], prefix: str = "") -> str:
        """Return a comma-separated list of quoted columns."""
        return ", ".join(prefix + self.column(field) for field in fields)

    @cached_property
    def read_columns(self) -> str:
        """The columns that ``read_record`` takes, of the table alias ``r``."""
        return self.columns(READ_FIELDS, "r.")

    def insert(self, *, headers: str, times: str) -> str:
        """Return the statement that keeps an outcome, in place of an expired one if need be, never of a live one."""
        fields = (*WRITTEN_FIELDS, *TIME_FIELDS)
        placeholders = ", ".join(headers if field == "response_headers" else "%s" for field in WRITTEN_FIELDS)
        updates = ", ".join(f"{self.column(field)} = EXCLUDED.{self.column(field)}" for field in fields)
        return (
            f"INSERT INTO {self.name} ({self.columns(fields)}) VALUES ({placeholders}, {times}) "
            f"ON CONFLICT ({self.column('digest')}) DO UPDATE SET {updates} "
            f"WHERE {self.name}.{self.column('expires_at')} <= EXCLUDED.{self.column('completed_at')} "
            f"RETURNING {self.column('expires_at')}"
        )


def written_values(claim: Claim, outcome: Outcome) -> list[Any]:
    """Return the parameters of WRITTEN_FIELDS."""
    key, fingerprint = claim.operation.key, claim.operation.fingerprint
    return [
        key.digest,
        " / ".join(key.scope),
        key.operation,
        key.value if settings.STORE_KEYS == "plain" else "",
        fingerprint.version,
        fingerprint.secret_id,
        fingerprint.digest,
        "completed",
        claim.attempt,
        outcome.status,
        json.dumps(outcome.headers, separators=(",", ":")),
        outcome.body,
        outcome.hash,
        claim.duration,
    ]


def read_record(row: Sequence[Any]) -> Record:
    """Make a record of the values of READ_FIELDS, the time being aware already."""
    version, secret_id, digest, status, headers, body, expires_at = row
    return Record(
        fingerprint=Fingerprint(version=version, secret_id=secret_id, digest=bytes(digest)),
        outcome=Outcome(
            status=status,
            headers=tuple((name, value) for name, value in json.loads(headers)),
            body=None if body is None else bytes(body),
        ),
        expires_at=expires_at,
    )


def aware(value: datetime, zone: Any = None) -> datetime:
    """Return a datetime of the database with its time zone, which it lacks under USE_TZ=False or on SQLite."""
    return value if timezone.is_aware(value) else timezone.make_aware(value, zone or timezone.get_default_timezone())


def run(cursor: CursorWrapper, sql: str, params: Sequence[Any]) -> None:
    """Execute a statement so that SQL debug logging sees its text, not the keys and bodies in its parameters."""
    if isinstance(cursor, CursorDebugWrapper):
        with cursor.debug_sql(sql):
            CursorWrapper.execute(cursor, sql, params)
    else:
        cursor.execute(sql, params)

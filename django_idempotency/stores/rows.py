"""The record table in raw SQL: on the hot path, composing a statement through the ORM costs more than running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_idempotency.conf import settings
from django_idempotency.core.fingerprints import Fingerprint
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.stores import models
from django_idempotency.stores.executions import FACTS

READ_FIELDS = (
    "fingerprint_version",
    "fingerprint_secret",
    "fingerprint",
    "response_status",
    "response_headers",
    "response_body",
    "sealed_with",
)
TIME_FIELDS = ("created_at", "completed_at", "expires_at")
WRITTEN_FIELDS = (
    "digest",
    "scope",
    "operation",
    "key",
    "fingerprint_version",
    "fingerprint_secret",
    "fingerprint",
    "request_id",
    "attempt",
    "response_status",
    "response_headers",
    "response_body",
    "sealed_with",
    "outcome_hash",
    "about",
    "duration",
    *TIME_FIELDS,
)
_encode = json.JSONEncoder(separators=(",", ":")).encode


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
        """The columns of READ_FIELDS, of the table alias ``r``."""
        return self.columns(READ_FIELDS, "r.")

    def insert(self, *, headers: str = "%s", time: str = "%s", conflict: str | None = None) -> str:
        """Return the statement that keeps an outcome, with placeholders of these forms, up to what a conflict does."""
        forms = {"response_headers": headers, **dict.fromkeys(TIME_FIELDS, time)}
        placeholders = ", ".join(forms.get(field, "%s") for field in WRITTEN_FIELDS)
        return (
            f"INSERT INTO {self.name} ({self.columns(WRITTEN_FIELDS)}, {self.column('status')}) "
            f"VALUES ({placeholders}, 'completed') "
            + (f"ON CONFLICT ({self.column('digest')}) DO " if conflict is None else conflict)
        )

    def forget(self, rows: str) -> str:
        """Return the statement that deletes these rows and tells what they said of executions."""
        return f"DELETE FROM {self.name} WHERE {rows} RETURNING {self.columns((*FACTS.values(), 'expires_at'))}"

    def forget_one(self, now: str) -> str:
        """Return the statement that makes room for a new record if the one of this digest has expired."""
        return self.forget(f"{self.column('digest')} = %s AND {self.is_expired(now)}")

    def is_expired(self, now: str, prefix: str = "") -> str:
        """Return the condition that a record may be forgotten: only what is completed expires."""
        return f"{prefix}{self.column('expires_at')} <= {now} AND {prefix}{self.column('status')} = 'completed'"


def written_values(claim: Claim, outcome: Outcome, duration: float) -> list[Any]:
    """Return the parameters of WRITTEN_FIELDS up to the times."""
    return [*key_values(claim.operation), claim.attempt, *outcome_values(outcome), claim.about, duration]


def key_values(operation: Operation) -> list[Any]:
    """Return what tells an operation and its request: the first values of WRITTEN_FIELDS."""
    key, fingerprint = operation.key, operation.fingerprint
    return [
        key.digest,
        key.scope_text,
        key.operation,
        key.value if settings.STORE_KEYS == "plain" else "",
        fingerprint.version,
        fingerprint.secret_id,
        fingerprint.digest,
        operation.request_id,
    ]


def outcome_values(outcome: Outcome) -> list[Any]:
    """Return the values of the outcome in WRITTEN_FIELDS."""
    return [outcome.status, _encode(outcome.headers), outcome.body, outcome.sealed_with, outcome.hash]


def read_fingerprint(row: Sequence[Any]) -> Fingerprint:
    """Make a fingerprint of the first values of READ_FIELDS."""
    version, secret_id, digest = row[:3]
    return Fingerprint(version=version, secret_id=secret_id, digest=bytes(digest))


def read_record(row: Sequence[Any]) -> Record:
    """Make a record of the values of READ_FIELDS and the expiry."""
    *_, status, headers, body, sealed_with, expires_at = row
    return Record(
        fingerprint=read_fingerprint(row),
        outcome=Outcome(
            status=status,
            headers=tuple((name, value) for name, value in json.loads(headers)),
            body=None if body is None else bytes(body),
            sealed_with=sealed_with,
        ),
        expires_at=expires_at,
    )


def aware(value: datetime, zone: Any = None) -> datetime:
    """Return a datetime of the database with its time zone, which it lacks under USE_TZ=False or on SQLite."""
    return value if timezone.is_aware(value) else timezone.make_aware(value, zone or timezone.get_default_timezone())


def column_uuid(connection: BaseDatabaseWrapper, value: UUID | None) -> Any:
    """Return a UUID as the database keeps it."""
    return models.Record._meta.get_field("owner").get_db_prep_value(value, connection)


def as_uuid(value: Any) -> UUID | None:
    """Return what the database keeps as a UUID."""
    return UUID(value) if isinstance(value, str) else value

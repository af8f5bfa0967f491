"""Leases in the record table: each change is one statement that names the owner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any, NoReturn, cast
from uuid import UUID, uuid4

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.leases import Held, HeldStatus, Lease, StepStore
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import ClaimLost, LeaseLost, OperationInProgress
from django_idempotency.statements import run
from django_idempotency.stores import models
from django_idempotency.stores.executions import forget
from django_idempotency.stores.rows import (
    READ_FIELDS,
    RecordTable,
    aware,
    key_values,
    outcome_values,
    read_fingerprint,
    read_record,
)

_TRIES = 2
_KEY_FIELDS = (
    "digest",
    "scope",
    "operation",
    "key",
    "fingerprint_version",
    "fingerprint_secret",
    "fingerprint",
    "request_id",
)
_CLAIM_FIELDS = (
    "attempt",
    "status",
    "response_headers",
    "sealed_with",
    "owner",
    "lease_expires_at",
    "created_at",
    "expires_at",
)
_OUTCOME_FIELDS = (
    "response_status",
    "response_headers",
    "response_body",
    "sealed_with",
    "outcome_hash",
    "about",
    "duration",
)
_HELD_FIELDS = ("status", "owner", "attempt", "steps")


class LeaseTable:
    """Statements about leases.

    ``moment`` is the SQL of a time so many seconds from now, with one placeholder, for which ``as_moment`` makes the
    parameter; ``json`` is that of a JSON text; ``unlocked`` leaves out of ``rows`` what somebody is changing.
    ``looks_first`` spares a claim that would be in vain, where it has to wait for every other writer.
    """

    def __init__(
        self,
        table: RecordTable,
        *,
        moment: str,
        as_moment: Callable[[BaseDatabaseWrapper, float], Any],
        json: str = "%s",
        unlocked: str = "{rows}",
        looks_first: bool = False,
    ) -> None:
        name, column = table.name, table.column
        self._moment = as_moment
        self._looks_first = looks_first
        held = f"{column('digest')} = %s AND {column('owner')} = %s AND {column('status')} = 'in_progress'"
        lapsed = f"{column('lease_expires_at')} <= {moment}"
        placeholders = ", ".join(["%s"] * len(_KEY_FIELDS))
        empty = json.replace("%s", "'[]'")
        insert = (
            f"INSERT INTO {name} ({table.columns(_KEY_FIELDS)}, {table.columns(_CLAIM_FIELDS)}) "
            f"SELECT {placeholders}, 1, 'in_progress', {empty}, '', %s, {moment}, {moment}, {moment} WHERE "
        )
        conflict = f"ON CONFLICT ({column('digest')}) DO"
        # What can be seen is neither locked nor waited for: its lease may be renewed, its completion be under way.
        self._insert = f"{insert}NOT EXISTS (SELECT 1 FROM {name} WHERE {column('digest')} = %s) {conflict} NOTHING"
        self._forget = table.forget_one(moment)
        self._look = (
            f"SELECT {table.columns(_HELD_FIELDS)}, {lapsed}, {table.is_expired(moment)}, "
            f"{table.columns(READ_FIELDS)}, {column('expires_at')} FROM {name} WHERE {column('digest')} = %s"
        )
        nobodys = f"{column('status')} IN ('released', 'unknown') OR ({column('status')} = 'in_progress' AND {lapsed})"
        seen = (
            f"{column('digest')} = %s AND {column('owner')} = %s AND {column('attempt')} = %s "
            f"AND {column('status')} = %s AND ({nobodys})"
        )
        # Steps may have been written since the look: what is handed on are those that the statement itself has met.
        self._take_over = (
            f"UPDATE {name} SET {column('owner')} = %s, {column('attempt')} = {column('attempt')} + 1, "
            f"{column('status')} = 'in_progress', {column('lease_expires_at')} = {moment} "
            f"WHERE {unlocked.format(name=name, rows=seen)} RETURNING {column('steps')}"
        )
        self._renew = (
            f"UPDATE {name} SET {column('lease_expires_at')} = {moment} WHERE {unlocked.format(name=name, rows=held)}"
        )
        self._is_held = f"SELECT 1 FROM {name} WHERE {held}"
        self._write_steps = f"UPDATE {name} SET {column('steps')} = {json} WHERE {held}"
        self._give_up = (
            f"UPDATE {name} SET {column('status')} = %s, {column('lease_expires_at')} = NULL, "
            f"{column('steps')} = {json} WHERE {held}"
        )
        self._delete = f"DELETE FROM {name} WHERE {held}"
        outcome = ", ".join(
            f"{column(field)} = {json if field == 'response_headers' else '%s'}" for field in _OUTCOME_FIELDS
        )
        self._complete = (
            f"UPDATE {name} SET {outcome}, {column('status')} = 'completed', {column('lease_expires_at')} = NULL, "
            f"{column('completed_at')} = {moment}, {column('expires_at')} = {moment} WHERE {held}"
        )
        self._expiry = f"SELECT {column('expires_at')} FROM {name} WHERE {column('digest')} = %s"

    def reserve(
        self, connection: BaseDatabaseWrapper, store: StepStore, operation: Operation, lease: timedelta, ttl: timedelta
    ) -> Lease | Held:
        """Insert the claim, or put it in the place of an expired record; else look what is there."""
        owner = uuid4()
        moments = [self._at(connection, time) for time in (lease, timedelta(0), ttl)]
        values = [*key_values(operation), column_uuid(connection, owner), *moments]
        with committed(connection):
            if self._looks_first and (held := self.look(connection, operation)):
                return held
            for _ in range(_TRIES):
                if self._write(connection, self._insert, [*values, operation.key.digest]):
                    return Lease(
                        operation=operation,
                        owner=owner,
                        fingerprint=operation.fingerprint,
                        steps=Steps(),
                        store=store,
                    )
                if held := self.look(connection, operation):
                    return held
                forget(connection, self._forget, (operation.key.digest, self._at(connection, timedelta(0))))
        raise OperationInProgress

    def _write(self, connection: BaseDatabaseWrapper, statement: str, values: Sequence[Any]) -> bool:
        with connection.cursor() as cursor:
            run(cursor, statement, values)
            return bool(cursor.rowcount)

    def look(self, connection: BaseDatabaseWrapper, operation: Operation) -> Held | None:
        """Return what is known of an operation, None if that is nothing or has expired."""
        now = self._at(connection, timedelta(0))
        with connection.cursor() as cursor:
            run(cursor, self._look, (now, now, operation.key.digest))
            row = cursor.fetchone()
        if row is None:
            return None
        status, owner, attempt, steps, has_lapsed, is_expired, *values, expires_at = row
        if is_expired:
            return None
        record = None
        if status == "completed":
            record = read_record((*values, aware(expires_at, connection.timezone)))
        return Held(
            status=cast(HeldStatus, status),
            fingerprint=record.fingerprint if record else read_fingerprint(values),
            owner=as_uuid(owner),
            attempt=attempt,
            has_lapsed=bool(has_lapsed),
            steps=Steps.decode(steps),
            record=record,
        )

    def refuse(self, connection: BaseDatabaseWrapper, operation: Operation) -> NoReturn:
        """Refuse an operation that meets a lease. Raises what says why."""
        held = self.look(connection, operation)
        if held is None or held.record:
            raise ClaimLost  # it has changed since: look again in another attempt
        held.refuse(operation)

    def take_over(
        self, connection: BaseDatabaseWrapper, store: StepStore, operation: Operation, held: Held, lease: timedelta
    ) -> Lease | None:
        """Change the owner of what is still as it was seen, and go on after the steps that are there by now."""
        owner = uuid4()
        values = [
            column_uuid(connection, owner),
            self._at(connection, lease),
            operation.key.digest,
            column_uuid(connection, held.owner),
            held.attempt,
            held.status,
            self._at(connection, timedelta(0)),
        ]
        with committed(connection), connection.cursor() as cursor:
            run(cursor, self._take_over, values)
            taken = cursor.fetchall()
        if not taken:
            return None
        return Lease(
            operation=operation,
            owner=owner,
            attempt=held.attempt + 1,
            fingerprint=held.fingerprint,
            steps=Steps.decode(taken[0][0]),
            store=store,
        )

    def renew(self, connection: BaseDatabaseWrapper, held: Lease, lease: timedelta) -> bool:
        """Move the deadline, unless the record is locked: its owner is completing it, or somebody takes it over."""
        owner = self._owner(connection, held)
        with connection.cursor() as cursor:
            run(cursor, self._renew, (self._at(connection, lease), *owner))
            if cursor.rowcount:
                return True
            run(cursor, self._is_held, owner)
            return cursor.fetchone() is not None

    def write_steps(self, connection: BaseDatabaseWrapper, lease: Lease, steps: Steps) -> None:
        """Replace the steps. Raises LeaseLost."""
        self._change(connection, lease, self._write_steps, steps.encode())

    def release(self, connection: BaseDatabaseWrapper, lease: Lease, *, unknown: bool) -> None:
        """Give up what is still held."""
        try:
            if unknown or lease.steps:
                self._change(
                    connection, lease, self._give_up, "unknown" if unknown else "released", lease.steps.encode()
                )
            else:
                self._change(connection, lease, self._delete)
        except LeaseLost:
            pass

    def complete(self, connection: BaseDatabaseWrapper, lease: Lease, outcome: Outcome, ttl: timedelta) -> datetime:
        """Keep the outcome in the open transaction, whose effects nobody else sees if the lease is lost."""
        times = (self._at(connection, timedelta(0)), self._at(connection, ttl))
        self._change(connection, lease, self._complete, *outcome_values(outcome), lease.about, lease.duration, *times)
        with connection.cursor() as cursor:
            run(cursor, self._expiry, (lease.operation.key.digest,))
            return aware(cursor.fetchone()[0], connection.timezone)

    def _change(self, connection: BaseDatabaseWrapper, lease: Lease, sql: str, *values: Any) -> None:
        with connection.cursor() as cursor:
            run(cursor, sql, (*values, *self._owner(connection, lease)))
            if not cursor.rowcount:
                raise LeaseLost

    def _owner(self, connection: BaseDatabaseWrapper, lease: Lease) -> tuple[Any, ...]:
        return lease.operation.key.digest, column_uuid(connection, lease.owner)

    def _at(self, connection: BaseDatabaseWrapper, delay: timedelta) -> Any:
        return self._moment(connection, delay.total_seconds())


def committed(connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
    """Let each statement commit by itself. Raises RuntimeError within a transaction that is not a test's."""
    return transaction.atomic(connection.alias, durable=True) if connection.in_atomic_block else nullcontext()


def column_uuid(connection: BaseDatabaseWrapper, value: UUID | None) -> Any:
    """Return a UUID as the database keeps it."""
    return models.Record._meta.get_field("owner").get_db_prep_value(value, connection)


def as_uuid(value: Any) -> UUID | None:
    """Return what the database keeps as a UUID."""
    return UUID(value) if isinstance(value, str) else value

"""Leases in the record table: each change is one statement that names the owner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn, cast
from uuid import UUID, uuid4

from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.leases import Held, HeldStatus, Lease, StepStore
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import ClaimLost, LeaseLost, OperationInProgress
from django_idempotency.statements import committed, run
from django_idempotency.stores.executions import forget, read_moment
from django_idempotency.stores.rows import (
    READ_FIELDS,
    RecordTable,
    as_uuid,
    aware,
    column_uuid,
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
SIGHT_WIDTH = len(_HELD_FIELDS) + len(READ_FIELDS) + 3


class LeaseTable:
    """Statements about leases.

    ``moment`` is the SQL of a time so many seconds from now, with one placeholder, for which ``as_moment`` makes the
    parameter; ``json`` is that of a JSON text; ``unlocked`` leaves out of ``rows`` what somebody is changing.
    ``looks_first`` spares a claim that would be in vain, where it has to wait for every other writer.

    Its statements: ``sight`` looks, ``insert_as`` claims as an attempt of a number, ``take_over_by`` changes the owner.
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
        self.looks_first = looks_first
        held = f"{column('digest')} = %s AND {column('owner')} = %s AND {column('status')} = 'in_progress'"
        lapsed = f"{column('lease_expires_at')} <= {moment}"
        placeholders = ", ".join(["%s"] * len(_KEY_FIELDS))
        empty = json.replace("%s", "'[]'")
        # What can be seen is neither locked nor waited for: its lease may be renewed, its completion be under way.
        self.insert_as = (
            f"INSERT INTO {name} ({table.columns(_KEY_FIELDS)}, {table.columns(_CLAIM_FIELDS)}) "
            f"SELECT {placeholders}, {{attempt}}, 'in_progress', {empty}, '', %s, {moment}, {moment}, {moment} WHERE "
            f"NOT EXISTS (SELECT 1 FROM {name} WHERE {column('digest')} = %s) "
            f"ON CONFLICT ({column('digest')}) DO NOTHING"
        )
        self._insert = self.insert_as.format(attempt=1)
        self._forget = table.forget_one(moment)
        self.sight = (
            f"SELECT {table.columns(_HELD_FIELDS)}, {lapsed}, {table.is_expired(moment)}, "
            f"{table.columns(READ_FIELDS)}, {column('expires_at')} FROM {name} WHERE {column('digest')} = %s"
        )
        nobodys = f"{column('status')} IN ('released', 'unknown') OR ({column('status')} = 'in_progress' AND {lapsed})"
        seen = (
            f"{column('digest')} = %s AND {column('owner')} = %s AND {column('attempt')} = %s "
            f"AND {column('status')} = %s AND ({nobodys})"
        )
        # Steps may have been written since the look: what is handed on are those that the statement itself has met.
        self.take_over_by = (
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
        self.complete_by = (
            f"UPDATE {name} SET {outcome}, {column('status')} = 'completed', {column('lease_expires_at')} = NULL, "
            f"{column('completed_at')} = {moment}, {column('expires_at')} = {moment} WHERE {held} "
            f"RETURNING {column('expires_at')}"
        )

    def reserve(
        self, connection: BaseDatabaseWrapper, store: StepStore, operation: Operation, lease: timedelta, ttl: timedelta
    ) -> Lease | Held:
        """Insert the claim, or put it in the place of an expired record; else look what is there."""
        owner = uuid4()
        values = self.claim_values(connection, operation, owner, lease, ttl)
        with committed(connection):
            if self.looks_first and (held := self.look(connection, operation)):
                return held
            for _ in range(_TRIES):
                if self._write(connection, self._insert, values):
                    return Lease(
                        operation=operation, owner=owner, fingerprint=operation.fingerprint, steps=Steps(), store=store
                    )
                if held := self.look(connection, operation):
                    return held
                self.forget_expired(connection, operation)
        raise OperationInProgress

    def claim_values(
        self, connection: BaseDatabaseWrapper, operation: Operation, owner: UUID, lease: timedelta, ttl: timedelta
    ) -> list[Any]:
        """Return the parameters of ``insert_as``."""
        moments = [self.moment_in(connection, time) for time in (lease, timedelta(0), ttl)]
        return [*key_values(operation), column_uuid(connection, owner), *moments, operation.key.digest]

    def forget_expired(self, connection: BaseDatabaseWrapper, operation: Operation) -> None:
        """Make room for a claim where what is there has expired."""
        forget(connection, self._forget, (operation.key.digest, self.moment_in(connection, timedelta(0))))

    def _write(self, connection: BaseDatabaseWrapper, statement: str, values: Sequence[Any]) -> bool:
        with connection.cursor() as cursor:
            run(cursor, statement, values)
            return bool(cursor.rowcount)

    def look(self, connection: BaseDatabaseWrapper, operation: Operation) -> Held | None:
        """Return what is known of an operation, None if that is nothing or has expired."""
        with connection.cursor() as cursor:
            run(cursor, self.sight, self.sight_values(connection, operation))
            row = cursor.fetchone()
        return None if row is None else self.read_sight(connection, row)

    def sight_values(self, connection: BaseDatabaseWrapper, operation: Operation) -> tuple[Any, ...]:
        """Return the parameters of ``sight``."""
        now = self.moment_in(connection, timedelta(0))
        return now, now, operation.key.digest

    def read_sight(self, connection: BaseDatabaseWrapper, row: Sequence[Any]) -> Held | None:
        """Return what a row of ``sight`` tells, None if that has expired."""
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
        values = self.take_over_values(connection, operation, held, owner, lease)
        with committed(connection), connection.cursor() as cursor:
            run(cursor, self.take_over_by, values)
            taken = cursor.fetchall()
        return taken_over(store, operation, held, owner, taken[0][0]) if taken else None

    def take_over_values(
        self, connection: BaseDatabaseWrapper, operation: Operation, held: Held, owner: UUID, lease: timedelta
    ) -> tuple[Any, ...]:
        """Return the parameters of ``take_over_by``."""
        return (
            column_uuid(connection, owner),
            self.moment_in(connection, lease),
            operation.key.digest,
            column_uuid(connection, held.owner),
            held.attempt,
            held.status,
            self.moment_in(connection, timedelta(0)),
        )

    def renew(self, connection: BaseDatabaseWrapper, held: Lease, lease: timedelta) -> bool:
        """Move the deadline, unless the record is locked: its owner is completing it, or somebody takes it over."""
        owner = self._owner(connection, held)
        with connection.cursor() as cursor:
            run(cursor, self._renew, (self.moment_in(connection, lease), *owner))
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
        with connection.cursor() as cursor:
            run(cursor, self.complete_by, self.complete_values(connection, lease, outcome, ttl))
            completed = cursor.fetchall()  # not fetchone(): SQLite would hold the statement open past the commit
        if not completed:
            raise LeaseLost
        return read_moment(connection, completed[0][0])

    def complete_values(
        self, connection: BaseDatabaseWrapper, lease: Lease, outcome: Outcome, ttl: timedelta
    ) -> tuple[Any, ...]:
        """Return the parameters of ``complete_by``."""
        times = (self.moment_in(connection, timedelta(0)), self.moment_in(connection, ttl))
        return (*outcome_values(outcome), lease.about, lease.duration, *times, *self._owner(connection, lease))

    def _change(self, connection: BaseDatabaseWrapper, lease: Lease, sql: str, *values: Any) -> None:
        with connection.cursor() as cursor:
            run(cursor, sql, (*values, *self._owner(connection, lease)))
            if not cursor.rowcount:
                raise LeaseLost

    def _owner(self, connection: BaseDatabaseWrapper, lease: Lease) -> tuple[Any, ...]:
        return lease.operation.key.digest, column_uuid(connection, lease.owner)

    def moment_in(self, connection: BaseDatabaseWrapper, delay: timedelta) -> Any:
        """Return the parameter of a time that far from now."""
        return self._moment(connection, delay.total_seconds())


def taken_over(store: StepStore, operation: Operation, held: Held, owner: UUID, steps: str | None) -> Lease:
    """Return the lease of who has taken the place of what was held."""
    return Lease(
        operation=operation,
        owner=owner,
        attempt=held.attempt + 1,
        fingerprint=held.fingerprint,
        steps=Steps.decode(steps),
        store=store,
    )

"""Claims with a companion: a row of another table that is there if and only if the claim is.

On PostgreSQL look, claim and companion are one statement; on SQLite they are statements of one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.leases import Held, Lease, StepStore
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import LeaseLost, OperationInProgress
from django_idempotency.statements import committed, run
from django_idempotency.stores.executions import read_moment
from django_idempotency.stores.leases import SIGHT_WIDTH, LeaseTable, taken_over
from django_idempotency.stores.rows import RecordTable, column_uuid

_TRIES = 2
Row = Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A statement, or a part of one, with its parameters."""

    sql: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """What is written in the commit of a claim.

    ``last_attempt`` is a query for the number of the last attempt, of which there may be no record any more.
    ``opening`` inserts: ``INSERT … SELECT …, {attempt}{claimed}``, the number of the attempt being its last value.
    ``closing`` changes what an attempt has left whose place is taken: ``UPDATE … WHERE …{claimed}``, which is also what
    is written beside a completion.
    """

    last_attempt: Part
    opening: Part
    closing: Part


class AccompaniedLeases:
    """Statements about leases that begin with a companion. ``is_one`` says that they are sent as one."""

    def __init__(self, leases: LeaseTable, table: RecordTable, *, moment: str, is_one: bool) -> None:
        self._leases, self._is_one = leases, is_one
        name, column = table.name, table.column
        held = f"{column('digest')} = %s AND {column('owner')} = %s AND {column('status')} = 'in_progress'"
        self._returning = f" RETURNING {column('attempt')}"
        self._returning_steps = f", {column('attempt')}"  # behind the steps, which are returned anyway
        self._reopen = (
            f"UPDATE {name} SET {column('owner')} = %s, {column('attempt')} = {column('attempt')} + 1, "
            f"{column('status')} = 'in_progress', {column('lease_expires_at')} = {moment}, {column('steps')} = NULL "
            f"WHERE {column('digest')} = %s AND {column('attempt')} = %s AND {column('status')} = 'completed' "
            f"RETURNING {column('steps')}"
        )
        self._restore = (
            f"UPDATE {name} SET {column('status')} = 'completed', {column('lease_expires_at')} = NULL WHERE {held}"
        )

    def reserve(
        self,
        connection: BaseDatabaseWrapper,
        store: StepStore,
        operation: Operation,
        companion: Companion,
        *,
        lease: timedelta,
        ttl: timedelta,
    ) -> Lease | Held:
        """Insert the claim and its companion where nothing live is known of the operation; else tell what is."""
        owner = uuid4()
        values = self._leases.claim_values(connection, operation, owner, lease, ttl)
        key_values, others = values[:-5], values[-5:]
        attempt = f"coalesce(({companion.last_attempt.sql}), 0) + 1"
        claim = Part(
            sql=self._leases.insert_as.format(attempt=attempt) + self._returning,
            values=(*key_values, *companion.last_attempt.values, *others),
        )
        for _ in range(_TRIES):
            claimed, seen = self._claim(connection, operation, claim, [companion.opening], looks=True)
            if claimed:
                fingerprint = operation.fingerprint
                return Lease(
                    operation=operation,
                    owner=owner,
                    attempt=claimed[0],
                    fingerprint=fingerprint,
                    steps=Steps(),
                    store=store,
                )
            if held := self._leases.read_sight(connection, seen) if seen else None:
                return held
            self._leases.forget_expired(connection, operation)
        raise OperationInProgress

    def take_over(
        self,
        connection: BaseDatabaseWrapper,
        store: StepStore,
        operation: Operation,
        held: Held,
        companion: Companion,
        *,
        lease: timedelta,
    ) -> Lease | None:
        """Change the owner of what is still as it was seen, and write the companion."""
        owner = uuid4()
        values = self._leases.take_over_values(connection, operation, held, owner, lease)
        claim = Part(sql=self._leases.take_over_by + self._returning_steps, values=values)
        parts = [companion.closing, companion.opening]
        claimed, _ = self._claim(connection, operation, claim, parts)
        return taken_over(store, operation, held, owner, claimed[0]) if claimed else None

    def reopen(
        self,
        connection: BaseDatabaseWrapper,
        store: StepStore,
        operation: Operation,
        held: Held,
        companion: Companion,
        *,
        lease: timedelta,
    ) -> Lease | None:
        """Claim what is completed, without its steps; its outcome stays there for ``restore``."""
        owner = uuid4()
        values = (
            column_uuid(connection, owner),
            self._leases.moment_in(connection, lease),
            operation.key.digest,
            held.attempt,
        )
        claim = Part(sql=self._reopen + self._returning_steps, values=values)
        claimed, _ = self._claim(connection, operation, claim, [companion.opening])
        return taken_over(store, operation, held, owner, None) if claimed else None

    def complete(
        self,
        connection: BaseDatabaseWrapper,
        lease: Lease,
        outcome: Outcome,
        closing: Part,
        *,
        ttl: timedelta,
    ) -> datetime:
        """Keep the outcome and close what was opened with the claim; return the expiry. Raises LeaseLost."""
        if not self._is_one:
            expires_at = self._leases.complete(connection, lease, outcome, ttl)
            with connection.cursor() as cursor:
                run(cursor, closing.sql.format(claimed=""), closing.values)
            return expires_at
        values = self._leases.complete_values(connection, lease, outcome, ttl)
        sql = f"WITH claimed AS ({self._leases.complete_by}), part AS ({_joined(closing)}) SELECT * FROM claimed"
        with connection.cursor() as cursor:
            run(cursor, sql, (*values, *closing.values))
            completed = cursor.fetchone()
        if completed is None:
            raise LeaseLost
        return read_moment(connection, completed[0])

    def restore(self, connection: BaseDatabaseWrapper, lease: Lease) -> None:
        """Let the outcome be replayed again that was there before ``reopen``, if the lease is still held."""
        with connection.cursor() as cursor:
            run(cursor, self._restore, (lease.operation.key.digest, column_uuid(connection, lease.owner)))

    def _claim(
        self,
        connection: BaseDatabaseWrapper,
        operation: Operation,
        claim: Part,
        parts: Sequence[Part],
        *,
        looks: bool = False,
    ) -> tuple[Row | None, Row | None]:
        """Return what the claim has returned, its attempt being the last value, or what is seen in its place."""
        if self._is_one:
            return self._at_once(connection, operation, claim, parts)
        if looks and (seen := self._look(connection, operation)):
            return None, seen
        return self._in_turn(connection, claim, parts), None

    def _at_once(
        self, connection: BaseDatabaseWrapper, operation: Operation, claim: Part, parts: Sequence[Part]
    ) -> tuple[Row | None, Row | None]:
        after = "".join(f", part{number} AS ({_joined(part)})" for number, part in enumerate(parts))
        sql = (
            f"WITH claimed AS ({claim.sql}){after} SELECT claimed.*, seen.* FROM (SELECT 1) AS one "
            f"LEFT JOIN claimed ON true LEFT JOIN ({self._leases.sight}) AS seen ON true"
        )
        values = [value for part in (claim, *parts) for value in part.values]
        with committed(connection), connection.cursor() as cursor:
            run(cursor, sql, [*values, *self._leases.sight_values(connection, operation)])
            row = cursor.fetchone()
        width = len(row) - SIGHT_WIDTH
        claimed, seen = row[:width], row[width:]
        return (claimed if claimed[-1] is not None else None), (seen if seen[0] is not None else None)

    def _in_turn(self, connection: BaseDatabaseWrapper, claim: Part, parts: Sequence[Part]) -> Row | None:
        with transaction.atomic(connection.alias, durable=True), connection.cursor() as cursor:
            run(cursor, claim.sql, claim.values)
            claimed = cursor.fetchall()
            for part in parts if claimed else ():
                is_opening = "{attempt}" in part.sql
                values = (*part.values, claimed[0][-1]) if is_opening else part.values
                run(cursor, part.sql.format(attempt="%s", claimed=""), values)
        return claimed[0] if claimed else None

    def _look(self, connection: BaseDatabaseWrapper, operation: Operation) -> Row | None:
        with connection.cursor() as cursor:
            run(cursor, self._leases.sight, self._leases.sight_values(connection, operation))
            row: Row | None = cursor.fetchone()
        return row


def _joined(part: Part) -> str:
    """Return a statement that acts where the claim was won."""
    attempt, claimed = "claimed.attempt", " FROM claimed"
    if "{attempt}" not in part.sql:
        attempt, claimed = "", " AND EXISTS (SELECT 1 FROM claimed)"
    return part.sql.format(attempt=attempt, claimed=claimed)

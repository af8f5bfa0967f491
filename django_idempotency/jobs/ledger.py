"""The ledger: a row for each run, opened in the commit of its claim and closed in the commit of its end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings as django_settings
from django.db import InterfaceError, OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_idempotency.conf import settings
from django_idempotency.core.attempts import Transaction
from django_idempotency.core.layers import JOB_RAISED
from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.core.steps import Steps
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.jobs.identifiers import new_run_id
from django_idempotency.jobs.models import JobRun
from django_idempotency.jobs.results import error_text
from django_idempotency.stores import models
from django_idempotency.stores.base import Store
from django_idempotency.stores.companions import Companion, Part
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.executions import tell_replaced

Status = JobRun.Status
_origin: ContextVar[str] = ContextVar("origin of a job", default="")
_UNKNOWN = "An earlier run broke off, and nobody knows what it has done."
_FACTS = ("run_id", "job", "key", "digest", "worker", "origin", "is_forced", "status", "error")
_FIELDS = {field.name: field for field in JobRun._meta.concrete_fields}
_CLOSED = ("status", "outcome_hash", "previous_hash", "error")
_WRITTEN = (*_FACTS, "started_at", "attempt")


@contextmanager
def called_by(origin: str) -> Iterator[None]:
    """Have the runs within the block say where they come from, such as ``celery:`` and the id of a task."""
    token = _origin.set(origin[:255])
    try:
        yield
    finally:
        _origin.reset(token)


@dataclass(slots=True, kw_only=True, eq=False)
class LedgerStore:
    """A store whose claims open a row of the ledger, and whose completions and releases close it.

    Where the store is a database, they do so in the same commit; elsewhere right after, as well as that can be done.
    ``error`` is what the run has failed with; ``previous`` the outcome that a forced run is to replace.
    """

    store: Store
    operation: Operation
    is_forced: bool = False
    run_id: UUID = field(default_factory=new_run_id)
    error: BaseException | None = None
    previous: Outcome | None = None
    kept_hash: bytes = b""
    _follows: bool = False

    def __hash__(self) -> int:
        return hash(self.store)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LedgerStore) and self.store is other.store

    @property
    def alias(self) -> str:
        """The database of the ledger."""
        return self.store.alias or router.db_for_write(JobRun)

    @property
    def runs(self) -> Any:
        """The rows of this run: one, or none."""
        return JobRun.objects.using(self.alias).filter(pk=self.run_id)

    def time_left(self) -> timedelta | None:
        """Return for how long a run under way holds the key, unless it is renewed; None where that is not known."""
        rows = models.Record.objects.using(self.store.alias).filter(digest=self.operation.key.digest)
        ends_at = rows.values_list("lease_expires_at", flat=True).first() if self.store.alias else None
        return None if ends_at is None else ends_at - timezone.now()

    def recall(self, operation: Operation) -> Record | None:
        """Return a live record where that spares the look that the claim takes anyway."""
        return None if self.is_forced or not self.store.recalls_ahead else self.store.recall(operation)

    def reserve(self, operation: Operation, *, lease: timedelta, ttl: timedelta) -> Lease | Held:
        """Commit a claim and open its row, or tell what is live."""
        if isinstance(self.store, DatabaseStore):
            return self.store.reserve(operation, lease=lease, ttl=ttl, companion=self._companion())
        reserved = self.store.reserve(operation, lease=lease, ttl=ttl)
        if isinstance(reserved, Lease):
            self._open(reserved)
        return reserved

    def take_over(self, operation: Operation, held: Held, *, lease: timedelta) -> Lease | None:
        """Commit a claim in the place of what was seen, open its row and close the one of the run before it."""
        self._follows = True
        if isinstance(self.store, DatabaseStore):
            return self.store.take_over(operation, held, lease=lease, companion=self._companion())
        taken = self.store.take_over(operation, held, lease=lease)
        if taken:
            JobRun.objects.using(self.alias).filter(digest=operation.key.digest).close(status=Status.TAKEN_OVER)
            self._open(taken)
        return taken

    def reopen(self, record: Record, *, lease: timedelta) -> Lease | None:
        """Commit a claim of what is completed, and open its row; None if that has changed. Raises TypeError."""
        if not isinstance(self.store, DatabaseStore):
            raise TypeError("A job can be run again by force where its records are in a database.")
        self._follows, self.previous = True, record.outcome
        reopened = self.store.reopen(self.operation, lease=lease, companion=self._companion())
        if reopened is None:
            self.previous = None
        return reopened

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False) -> datetime:
        """Keep the outcome and close the row, in the open transaction. Raises LeaseLost."""
        if self._follows and self.store.alias:
            tell_replaced(self.store.alias, claim.operation.key.digest)
        facts = {
            "status": (Status.FAILED if outcome.status == JOB_RAISED else Status.EXECUTED).value,
            "outcome_hash": outcome.hash,
            "previous_hash": self.previous.hash if self.previous else None,
            "error": error_text(self.error) if self.error else "",
        }
        if isinstance(self.store, DatabaseStore):
            expires_at = self.store.complete(claim, outcome, ttl=ttl, last=last, closing=self._closing(facts))
        else:
            expires_at = self.store.complete(claim, outcome, ttl=ttl, last=last)
            self.runs.close(**facts)
        self.kept_hash = outcome.hash
        return expires_at

    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is still held, and close the row as failed or unknown."""
        with self.atomic():
            if self.previous and isinstance(self.store, DatabaseStore):
                self.store.restore(lease)
            else:
                self.store.release(lease, unknown=unknown)
            status = Status.UNKNOWN if unknown else Status.FAILED
            error = error_text(self.error) if self.error else _UNKNOWN if unknown else ""
            self.runs.close(status=status, error=error)

    def close_lost(self, error: BaseException) -> None:
        """Close the row of a run that has lost its lease, unless whoever took its place has done so."""
        self.runs.close(status=Status.EXPIRED, error=error_text(error))

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open a transaction."""
        return self.store.transaction()

    def suspended(self) -> AbstractContextManager[None]:
        """Let go, for the time of an outside call, of what an open transaction keeps others from."""
        return self.store.suspended()

    def claim(self, operation: Operation) -> Claim | Record:
        """Refuse: jobs hold leases. Raises TypeError."""
        raise TypeError("Jobs hold leases.")

    def renew(self, held: Lease, *, lease: timedelta) -> bool:
        """Move the deadline; tell whether the lease was still held."""
        return self.store.renew(held, lease=lease)

    def write_steps(self, lease: Lease, steps: Steps, *, in_transaction: bool = False) -> None:
        """Commit steps at once, or within the open transaction."""
        self.store.write_steps(lease, steps, in_transaction=in_transaction)

    def rest(self) -> None:
        """Give back what a waiting thread would hold for nothing."""
        self.store.rest()

    def close(self) -> None:
        """Close what the calling thread holds open."""
        self.store.close()

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Let what is written to record and ledger be one commit. Raises StoreUnavailable."""
        try:
            with transaction.atomic(using=self.alias) if self.store.alias else nullcontext():
                yield
        except (OperationalError, InterfaceError) as error:
            raise StoreUnavailable from error

    def _open(self, lease: Lease) -> None:
        self.run_id = new_run_id()
        JobRun.objects.using(self.alias).create(
            **dict(zip(_WRITTEN, (*self._facts(), timezone.now(), lease.attempt), strict=True))
        )

    def _companion(self) -> Companion:
        self.run_id = new_run_id()
        connection = connections[self.alias]
        sql = _statements(self.alias)
        now = moment(connection)
        facts = tuple(
            _FIELDS[name].get_db_prep_value(value, connection)
            for name, value in zip(_FACTS, self._facts(), strict=True)
        )
        digest = self.operation.key.digest
        return Companion(
            last_attempt=Part(sql=sql.last_attempt, values=(digest,)),
            opening=Part(sql=sql.opening, values=(*facts, *now)),
            closing=Part(sql=sql.closing, values=(*now, digest)),
        )

    def _closing(self, facts: dict[str, Any]) -> Part:
        connection = connections[self.alias]
        kept = {**facts, "run_id": self.run_id}
        values = {name: _FIELDS[name].get_db_prep_value(value, connection) for name, value in kept.items()}
        changed = tuple(values[name] for name in _CLOSED)
        return Part(sql=_statements(self.alias).ending, values=(*changed, *moment(connection), values["run_id"]))

    def _facts(self) -> tuple[Any, ...]:
        """Return the values of _FACTS."""
        key = self.operation.key
        kept = key.value if settings.STORE_KEYS == "plain" else ""
        origin = _origin.get()
        return (
            self.run_id,
            key.operation,
            kept,
            key.digest,
            _worker(os.getpid()),
            origin,
            self.is_forced,
            Status.IN_PROGRESS.value,
            "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statements:
    last_attempt: str
    opening: str
    closing: str
    ending: str


@lru_cache(maxsize=16)
def _statements(alias: str) -> _Statements:
    connection = connections[alias]
    quote, now = connection.ops.quote_name, "statement_timestamp()" if connection.vendor == "postgresql" else "%s"
    table = quote(JobRun._meta.db_table)
    column = {name: quote(str(field.column)) for name, field in _FIELDS.items()}
    placeholders = ", ".join(["%s"] * (len(_WRITTEN) - 2))
    columns = ", ".join(column[name] for name in _WRITTEN)
    return _Statements(
        last_attempt=f"SELECT {column['attempt']} FROM {table} WHERE {column['digest']} = %s "
        f"ORDER BY {column['attempt']} DESC LIMIT 1",
        opening=f"INSERT INTO {table} ({columns}) SELECT {placeholders}, {now}, {{attempt}}{{claimed}}",
        closing=f"UPDATE {table} SET {column['status']} = '{Status.TAKEN_OVER.value}', "
        f"{column['completed_at']} = {now} WHERE {column['digest']} = %s "
        f"AND {column['status']} = '{Status.IN_PROGRESS.value}'{{claimed}}",
        ending=f"UPDATE {table} SET {', '.join(f'{column[name]} = %s' for name in _CLOSED)}, "
        f"{column['completed_at']} = {now} WHERE {column['run_id']} = %s "
        f"AND {column['status']} = '{Status.IN_PROGRESS.value}'{{claimed}}",
    )


@lru_cache(maxsize=4)
def _worker(process: int) -> str:
    """Return what tells a worker; a process that was forked has an id of its own."""
    return f"{socket.gethostname()[:200]}:{process}"


def moment(connection: BaseDatabaseWrapper, delay: timedelta | None = None) -> tuple[Any, ...]:
    """Return the parameters of the SQL of a time: PostgreSQL takes the delay in seconds, if there is one."""
    if connection.vendor == "postgresql":
        return () if delay is None else (delay.total_seconds(),)
    time = timezone.now() + (delay or timedelta(0))
    if not django_settings.USE_TZ:
        time = timezone.make_naive(time, timezone.get_default_timezone())
    return (connection.ops.adapt_datetimefield_value(time),)

"""Jobs handed to a queue once: marked in the caller's transaction, sent after its commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any, Literal

from django.db import connections, transaction

from django_idempotency.conf import settings
from django_idempotency.core.fingerprints import Fingerprint
from django_idempotency.core.leases import Held
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import FingerprintMismatch
from django_idempotency.jobs.definitions import Job, job_of
from django_idempotency.jobs.ledger import moment
from django_idempotency.jobs.models import JobRun, QueuedJob
from django_idempotency.statements import run
from django_idempotency.stores import get_store
from django_idempotency.stores.database import DatabaseStore

State = Literal["sent", "queued", "in_progress", "completed", "unknown"]
_FIELDS = ("digest", "job", "key", "fingerprint", "fingerprint_version", "fingerprint_secret")
_TIMES = ("queued_at", "expires_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What came of it: ``sent`` (once the transaction commits), or why there was no need to.

    ``queued`` was it before and has not begun; the others say how the job stands. True where it is sent.
    """

    state: State
    key: str
    digest: bytes

    def __bool__(self) -> bool:
        return self.state == "sent"


def enqueue_once(
    task: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    send: Callable[[], object],
    deadline: timedelta = timedelta(minutes=10),
) -> Enqueued:
    """Have a job sent to a queue by ``send``, after the commit, unless it is waiting there, running or completed.

    ``task`` is a decorated function or what a queue has made of it. The mark is rolled back with the caller's
    transaction; it ends when a run begins, or at the ``deadline``, from which on a message that was lost is sent again.
    Raises FingerprintMismatch, OutcomeNotReplayable, TypeError where the records are in no database, and what ``send``
    raises, whose mark is then taken back.
    """
    job = job_of(task)
    operation, store = job.operation(args, kwargs or {}), get_store(job.options.store)
    if not isinstance(store, DatabaseStore):
        raise TypeError("A job can be enqueued once where its records are in a database.")
    with transaction.atomic(using=store.alias):
        state = _state_of(job, operation, store.look(operation)) or _mark(store.alias, operation, deadline)
        if state == "sent":
            transaction.on_commit(partial(_send, store.alias, operation, send), using=store.alias)
    return Enqueued(state=state, key=operation.key.value, digest=operation.key.digest)


def _state_of(job: Job, operation: Operation, held: Held | None) -> State | None:
    """Return how a job stands that need not be sent, else None. Raises FingerprintMismatch, OutcomeNotReplayable."""
    if held is None:
        return None
    if not operation.matches(held.fingerprint):
        raise FingerprintMismatch
    if held.status == "completed":
        return "completed"
    if held.status == "unknown":
        return None if job.options.reconcile else "unknown"
    return "in_progress" if held.status == "in_progress" and not held.has_lapsed else None


def _mark(alias: str, operation: Operation, deadline: timedelta) -> State:
    """Leave a mark unless there is one; a rival who is about to leave one is waited for."""
    connection, fingerprint, key = connections[alias], operation.fingerprint, operation.key
    plain = key.value if settings.STORE_KEYS == "plain" else ""
    facts = (key.digest, key.operation, plain, fingerprint.digest, fingerprint.version, fingerprint.secret_id)
    now, later = moment(connection), moment(connection, deadline)
    with connection.cursor() as cursor:
        run(cursor, _statement(alias), (*facts, *now, *later, *now))
        if cursor.fetchall():
            return "sent"
    mark = QueuedJob.objects.using(alias).get(digest=key.digest)
    kept = Fingerprint(
        version=mark.fingerprint_version, secret_id=mark.fingerprint_secret, digest=bytes(mark.fingerprint)
    )
    if not operation.matches(kept):
        raise FingerprintMismatch
    return "queued"


def _send(alias: str, operation: Operation, send: Callable[[], object]) -> None:
    try:
        send()
    except BaseException:
        QueuedJob.objects.using(alias).filter(digest=operation.key.digest).delete()
        raise


@lru_cache(maxsize=16)
def _statement(alias: str) -> str:
    connection = connections[alias]
    quote, is_postgresql = connection.ops.quote_name, connection.vendor == "postgresql"
    now = "statement_timestamp()" if is_postgresql else "%s"
    later = "statement_timestamp() + make_interval(secs => %s)" if is_postgresql else "%s"
    table, runs = quote(QueuedJob._meta.db_table), quote(JobRun._meta.db_table)

    def column(field: str, model: Any = QueuedJob) -> str:
        return quote(str(model._meta.get_field(field).column))

    columns = ", ".join(column(name) for name in (*_FIELDS, *_TIMES))
    renewed = ", ".join(f"{column(name)} = EXCLUDED.{column(name)}" for name in (*_FIELDS[3:], *_TIMES))
    has_begun = (
        f"SELECT 1 FROM {runs} WHERE {runs}.{column('digest', JobRun)} = {table}.{column('digest')} "
        f"AND {runs}.{column('started_at', JobRun)} >= {table}.{column('queued_at')}"
    )
    return (
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join(['%s'] * len(_FIELDS))}, {now}, {later}) "
        f"ON CONFLICT ({column('digest')}) DO UPDATE SET {renewed} "
        f"WHERE {table}.{column('expires_at')} <= {now} OR EXISTS ({has_begun}) RETURNING 1"
    )

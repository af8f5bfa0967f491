"""Jobs as an operator sees them: by business key or digest, with their record, their runs and what calls have got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet, Sum

from django_idempotency.audit.models import AuditEvent
from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.layers import JOB_SCOPE
from django_idempotency.jobs.models import JobRun
from django_idempotency.stores.models import Record
from django_idempotency.stores.sightings import NoSuchRecord, SeveralRecords, Sighting, digest_bounds, look_at

Status = JobRun.Status
#: Runs that are shown of one key, the newest.
SHOWN = 100
_SEVERAL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSighting:
    """One key of one job. ``record`` is None where it is free; ``answers`` counts calls by what they have got."""

    job: str
    key: str
    digest: bytes
    record: Sighting | None
    runs: Sequence[JobRun]
    answers: dict[str, int]


def runs(alias: str, *, job: str = "", key: str = "", statuses: Sequence[str] = ()) -> QuerySet[JobRun]:
    """Return runs, the newest first, each filter along an index of its own."""
    wanted = {"job": job, "key": key}
    found = JobRun.objects.using(alias).filter(**{name: value for name, value in wanted.items() if value})
    return (found.filter(status__in=statuses) if statuses else found).order_by("-run_id")


def find(alias: str, *, key: str = "", job: str = "", digest: str = "") -> JobSighting:
    """Return the job of a key, which is that of a run or of a record, or of the first digits of a digest.

    Raises NoSuchRecord, SeveralRecords.
    """
    digests = _digests(alias, key=key, job=job, digest=digest)
    if not digests:
        raise NoSuchRecord("There is no such job: neither a record nor a run of it is kept.")
    if len(digests) > 1:
        raise SeveralRecords(
            "Several jobs match: " + ", ".join(f"{one[:8].hex()} ({name})" for one, name in sorted(digests.items()))
        )
    return _sight(alias, *digests)


def _digests(alias: str, *, key: str, job: str, digest: str) -> dict[bytes, str]:
    if digest:
        condition = Q(digest__range=digest_bounds(digest))
    elif job:
        name = IdempotencyKey(value=key, scope=(JOB_SCOPE + job,), operation=job)
        condition = Q(digest=name.digest)
    else:
        condition = Q(key=key) & ~Q(key="")
    records = Record.objects.using(alias).filter(condition, scope__startswith=JOB_SCOPE)
    found = [
        *records.values_list("digest", "operation")[:_SEVERAL],
        *JobRun.objects.using(alias).filter(condition).values_list("digest", "job").distinct()[:_SEVERAL],
    ]
    return {bytes(one): str(name) for one, name in found}


def _sight(alias: str, digest: bytes) -> JobSighting:
    found = list(JobRun.objects.using(alias).filter(digest=digest).order_by("-attempt")[:SHOWN])
    named = Record.objects.using(alias).filter(digest=digest).values("operation", "key").first()
    job, key = (found[0].job, found[0].key) if found else (named["operation"], named["key"])  # type: ignore[index]
    return JobSighting(
        job=job,
        key=key,
        digest=digest,
        record=look_at(alias, digest),
        runs=found[::-1],
        answers=_answers(alias, digest),
    )


def _answers(alias: str, digest: bytes) -> dict[str, int]:
    """Count what calls have got: executions by their runs, the others by the events of the audit."""
    events = AuditEvent.objects.using(alias).filter(digest=digest).exclude(event=AuditEvent.Event.EXECUTED)
    counts = dict(events.values_list("event").annotate(count=Sum("count")).order_by("event"))
    executed = JobRun.objects.using(alias).filter(digest=digest, status=Status.EXECUTED).count()
    return {**({"executed": executed} if executed else {}), **counts}


def facts(run: JobRun) -> dict[str, Any]:
    """Return a run as what JSON can say."""
    return {
        "run_id": str(run.run_id),
        "job": run.job,
        "key": run.key,
        "digest": bytes(run.digest).hex(),
        "attempt": run.attempt,
        "status": run.status,
        "is_forced": run.is_forced,
        "is_same_outcome": run.is_same_outcome,
        "outcome_hash": bytes(run.outcome_hash).hex() if run.outcome_hash else None,
        "worker": run.worker,
        "origin": run.origin,
        "started_at": run.started_at.isoformat(),
        "completed_at": run.completed_at.isoformat() if run.completed_at else None,
        "duration": round((run.completed_at - run.started_at).total_seconds(), 6) if run.completed_at else None,
        "error": run.error,
    }

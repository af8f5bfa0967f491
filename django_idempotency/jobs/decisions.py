"""What an operator does about jobs: lets one run anew, and closes the runs of workers that have died."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from django_idempotency.core.layers import JOB_SCOPE
from django_idempotency.jobs.models import JobRun, QueuedJob
from django_idempotency.jobs.sightings import JobSighting, Status
from django_idempotency.signals import operation_answered
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.decisions import expire
from django_idempotency.stores.models import Record
from django_idempotency.stores.resolution import Decision, LeaseIsLive, NothingToResolve, Resolver
from django_idempotency.stores.sightings import Sighting, clock

_BATCH = 500


def reset(store: DatabaseStore, seen: JobSighting, decision: Decision) -> str:
    """Let the next call run anew, whatever came of the job; return what its record said.

    Raises NothingToResolve where it would anyway, LeaseIsLive unless that is overruled, RecordChanged.
    """
    record = check_reset(seen, decision)
    with store.transaction():
        if record.status == "completed":
            expire(store, record, decision)
        else:
            Resolver(store=store).release(record, decision)
        error = f"Reset by {decision.actor}: {decision.reason}"
        JobRun.objects.using(store.alias).filter(digest=seen.digest).close(status=Status.EXPIRED, error=error)
        QueuedJob.objects.using(store.alias).filter(digest=seen.digest).delete()
    return record.status


def check_reset(seen: JobSighting, decision: Decision) -> Sighting:
    """Return the record to be reset. Raises NothingToResolve, LeaseIsLive."""
    if seen.record is None:
        raise NothingToResolve("The key is free: the next call runs anyway.")
    if seen.record.is_live and not decision.force:
        raise LeaseIsLive
    return seen.record


def reap(store: DatabaseStore, *, job: str = "", is_dry: bool = False) -> list[JobRun]:
    """Close the runs whose lease has ended or that nobody holds any more; return them, the oldest first.

    Their keys are free for the next call, which takes over, or of unknown outcome where the job says so.
    """
    alias, lost = store.alias, _lost(store.alias, job)
    reaped: list[JobRun] = []
    while batch := list((lost.filter(pk__gt=reaped[-1].pk) if reaped else lost)[:_BATCH]):
        reaped += batch if is_dry else _close(alias, batch)
        if not is_dry and len(batch) < _BATCH:
            break
    return reaped


def _lost(alias: str, job: str) -> QuerySet[JobRun]:
    """Return the runs that are open although no lease is held for them."""
    held = Record.objects.using(alias).filter(
        digest=OuterRef("digest"),
        attempt=OuterRef("attempt"),
        status=Record.Status.IN_PROGRESS,
        lease_expires_at__gt=clock(alias),
    )
    running = JobRun.objects.using(alias).running().filter(~Exists(held))
    return (running.filter(job=job) if job else running).order_by("run_id")


def _close(alias: str, batch: list[JobRun]) -> list[JobRun]:
    """Close runs that are still open; each by itself, so that what a worker does meanwhile is not overwritten."""
    closed = []
    for run in batch:
        with transaction.atomic(using=alias):
            if _lost(alias, run.job).filter(pk=run.pk).exists() and _close_one(alias, run):
                closed.append(run)
    return closed


def _close_one(alias: str, run: JobRun) -> int:
    run.status, run.error = Status.EXPIRED, "The lease has ended."
    count = JobRun.objects.using(alias).filter(pk=run.pk).close(status=run.status, error=run.error)
    if count:
        operation_answered.send_robust(
            JobRun,
            using=alias,
            layer="jobs",
            operation=run.job,
            scope=JOB_SCOPE + run.job,
            digest=bytes(run.digest),
            outcome="expired",
            fingerprint=b"",
            outcome_hash=b"",
            attempt=run.attempt,
            duration=None,
            status=None,
            notes={},
            is_recorded=False,
            is_last=False,
            reason="LeaseLost",
        )
    return count

"""How long runs and marks of queues are kept: wherever there are records, which they are written beside."""

from __future__ import annotations

from django.db.models import QuerySet

from django_idempotency.jobs.models import JobRun, QueuedJob
from django_idempotency.purging import store_aliases
from django_idempotency.retention import Retention
from django_idempotency.retention import register as register_retention
from django_idempotency.stores.sightings import clock


def register() -> None:
    """Have the tables purged on the databases of the stores."""
    for name, model, expired, order_by in (
        ("job_runs", JobRun, _expired_runs, "completed_at"),
        ("queued_jobs", QueuedJob, _expired_marks, "expires_at"),
    ):
        register_retention(Retention(name=name, model=model, expired=expired, order_by=order_by, aliases=store_aliases))


def _expired_runs(alias: str) -> QuerySet[JobRun]:
    return JobRun.objects.using(alias).expired()


def _expired_marks(alias: str) -> QuerySet[QueuedJob]:
    return QueuedJob.objects.using(alias).filter(expires_at__lte=clock(alias))

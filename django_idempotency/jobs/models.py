"""The tables of jobs: the ledger of their runs, and what waits in a queue."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self

from django.db import connections, models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.conf import settings
from django_idempotency.jobs.identifiers import new_run_id


class JobRunQuerySet(models.QuerySet["JobRun"]):
    """Runs, which are opened and closed, and purged when their time is over."""

    def running(self) -> Self:
        """Narrow down to those that nobody has closed."""
        return self.filter(status=JobRun.Status.IN_PROGRESS)

    def expired(self) -> Self:
        """Narrow down to what may be purged: closed longer ago than ``IDEMPOTENCY_JOB_RUNS_TTL``."""
        return self.filter(completed_at__lt=self._now() - settings.job_runs_ttl)

    def close(self, **facts: Any) -> int:
        """Close those that are running, at the time of the database; return how many."""
        return self.running().update(completed_at=self._now(), **facts)

    def delete(self) -> NoReturn:
        """Refuse. Raises TypeError."""
        _refuse()

    def _now(self) -> Any:
        return Now() if connections[self.db].vendor == "postgresql" else timezone.now()


class JobRun(models.Model):
    """One run of a job, from its claim to its end: a row that is closed once, and never changed after that."""

    class Status(models.TextChoices):
        """What came of it. Another attempt has taken the place of a run whose lease had ended (``taken over``).

        ``Expired`` are runs whose lease ended, or that were given up, without anybody to take their place at once.
        """

        IN_PROGRESS = "in_progress", _("in progress")
        EXECUTED = "executed", _("executed")
        FAILED = "failed", _("failed")
        TAKEN_OVER = "taken_over", _("taken over")
        EXPIRED = "expired", _("expired")
        UNKNOWN = "unknown", _("unknown")

    run_id = models.UUIDField(_("run id"), primary_key=True, default=new_run_id, editable=False)
    job = models.CharField(_("job"), max_length=200)
    key = models.CharField(_("key"), max_length=255, blank=True)
    digest = models.BinaryField(_("digest"), max_length=32)
    attempt = models.PositiveIntegerField(_("attempt"), help_text=_("Of this key, as far as the ledger goes back."))
    worker = models.CharField(_("worker"), max_length=255, help_text=_("Host and process."))
    origin = models.CharField(_("origin"), max_length=255, blank=True, help_text=_("Such as the task of a queue."))
    status = models.CharField(_("status"), max_length=16, choices=Status)
    is_forced = models.BooleanField(_("forced"), default=False, help_text=_("Run again although it had succeeded."))
    outcome_hash = models.BinaryField(_("outcome hash"), max_length=32, null=True)
    previous_hash = models.BinaryField(
        _("previous outcome hash"), max_length=32, null=True, help_text=_("Of the outcome that a forced run replaces.")
    )
    error = models.TextField(_("error"), blank=True)
    started_at = models.DateTimeField(_("started"))
    completed_at = models.DateTimeField(_("completed"), null=True)

    objects = JobRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("job run")
        verbose_name_plural = _("job runs")
        indexes: ClassVar = [
            models.Index(fields=["digest", "attempt"], name="idempotency_jobrun_digest"),
            models.Index(fields=["job", "run_id"], name="idempotency_jobrun_job"),
            models.Index(fields=["status", "run_id"], name="idempotency_jobrun_status"),
            models.Index(fields=["key"], condition=~models.Q(key=""), name="idempotency_jobrun_key"),
            models.Index(fields=["completed_at"], name="idempotency_jobrun_completed"),
        ]

    def __str__(self) -> str:
        return f"{self.job} {bytes(self.digest[:4]).hex()} #{self.attempt}"

    def delete(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse. Raises TypeError."""
        _refuse()

    @property
    def is_same_outcome(self) -> bool | None:
        """Whether a forced run has come to the outcome that it replaces; None where there was none, or is none yet."""
        if self.previous_hash is None or self.outcome_hash is None:
            return None
        return bytes(self.previous_hash) == bytes(self.outcome_hash)


class QueuedJob(models.Model):
    """Says that a job has been handed to a queue, until a run of it begins or the time of the mark is over."""

    digest = models.BinaryField(_("digest"), max_length=32)
    job = models.CharField(_("job"), max_length=200)
    key = models.CharField(_("key"), max_length=255, blank=True)
    fingerprint = models.BinaryField(_("fingerprint"), max_length=32)
    fingerprint_version = models.PositiveSmallIntegerField(_("fingerprint version"))
    fingerprint_secret = models.CharField(_("fingerprint secret id"), max_length=16)
    queued_at = models.DateTimeField(_("queued"))
    expires_at = models.DateTimeField(_("expires"), help_text=_("From then on it may be queued again."))

    class Meta:
        verbose_name = _("queued job")
        verbose_name_plural = _("queued jobs")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["digest"], name="idempotency_queuedjob_digest"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="idempotency_queuedjob_expires"),
            models.Index(fields=["job", "id"], name="idempotency_queuedjob_job"),
            models.Index(fields=["key"], condition=~models.Q(key=""), name="idempotency_queuedjob_key"),
        ]

    def __str__(self) -> str:
        return f"{self.job} {bytes(self.digest[:4]).hex()}"


def _refuse() -> NoReturn:
    raise TypeError("Runs are kept until their time is over; the purge deletes them then.")

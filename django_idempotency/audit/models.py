"""The table of audit events: rows are added, and purged when their time is over, but never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, ClassVar, NoReturn

from django.db import connections, models, router
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency import retention
from django_idempotency.conf import settings


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    """Audit events can be read and appended. ``purge`` is the one way to delete any."""

    def append(self, **facts: Any) -> None:
        """Write an event down, at the time that the database's clock shows."""
        self.create(at=self._now(), **facts)

    def expired(self, before: datetime | None = None) -> AuditEventQuerySet:
        """Narrow down to what is older than this, by default than ``IDEMPOTENCY_AUDIT_TTL`` allows."""
        return self.filter(at__lt=before or self._now() - settings.audit_ttl)

    def purge(self, *, before: datetime | None = None, batch_size: int = 5000) -> Iterator[int]:
        """Delete what has expired in batches, each in a transaction of its own; yield their sizes."""
        alias: str = getattr(self, "_db", None) or router.db_for_write(self.model)
        while size := retention.purge_batch(self.expired(before), order_by="at", alias=alias, size=batch_size):
            yield size

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse. Raises TypeError."""
        _refuse()

    def delete(self) -> NoReturn:
        """Refuse. Raises TypeError."""
        _refuse()

    def bulk_create(self, objs: Iterable[AuditEvent], *args: Any, **options: Any) -> list[AuditEvent]:
        """Append several events. Raises TypeError where that would change others."""
        if options.get("update_conflicts"):
            _refuse()
        return super().bulk_create(objs, *args, **options)

    def _now(self) -> Any:
        return Now() if connections[self.db].vendor == "postgresql" else timezone.now()


class AuditEvent(models.Model):
    """One fact about an operation. The time is the database's; ``id`` tells the order."""

    class Event(models.TextChoices):
        """What happened: the outcome of a request, or what somebody decided."""

        EXECUTED = "executed", _("executed")
        REPLAYED = "replayed", _("replayed")
        IN_PROGRESS = "in_progress", _("in progress")
        MISMATCH = "mismatch", _("mismatch")
        REJECTED = "rejected", _("rejected")
        FAILED = "failed", _("failed")
        TAKEN_OVER = "taken_over", _("taken over")
        UNKNOWN = "unknown", _("unknown")
        EXPIRED = "expired", _("expired")
        FENCED = "fenced", _("fenced")
        RELEASED = "released", _("released")
        RESOLVED_DONE = "resolved_done", _("resolved as done")
        RESOLVED_NOT_DONE = "resolved_not_done", _("resolved as not done")
        ERASED = "erased", _("body erased")
        EXPIRED_NOW = "expired_now", _("expired by hand")
        BODY_REVEALED = "body_revealed", _("body revealed")
        EXPORTED = "exported", _("exported")

    event = models.CharField(_("event"), max_length=32, choices=Event)
    layer = models.CharField(_("layer"), max_length=16, default="http")
    operation = models.TextField(_("operation"), help_text=_("Method and route, or the name of a job, a window …"))
    scope = models.TextField(_("scope"), blank=True, help_text=_("Tenant and principal, as resolved by the server."))
    digest = models.BinaryField(_("digest"), max_length=32, default=bytes)
    fingerprint = models.BinaryField(_("fingerprint"), max_length=32, default=bytes)
    outcome_hash = models.BinaryField(_("outcome hash"), max_length=32, default=bytes)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    status = models.PositiveSmallIntegerField(_("response status"), null=True)
    duration = models.FloatField(_("duration"), null=True, help_text=_("Seconds."))
    count = models.PositiveBigIntegerField(_("count"), default=1, help_text=_("How many alike this row stands for."))
    actor = models.TextField(_("actor"), blank=True)
    reason = models.TextField(_("reason"), blank=True)
    at = models.DateTimeField(_("at"))

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        indexes: ClassVar = [
            models.Index(fields=["digest", "id"], name="idempotency_auditevent_digest"),
            models.Index(fields=["at"], name="idempotency_auditevent_at"),
        ]

    def __str__(self) -> str:
        return f"{self.event} {bytes(self.digest[:4]).hex()}"

    def save(self, *args: Any, **options: Any) -> None:
        """Append the event. Raises TypeError if it was before, IntegrityError if another one has its id."""
        if not self._state.adding:
            _refuse()
        super().save(*args, **{**options, "force_insert": True})

    def delete(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse. Raises TypeError."""
        _refuse()


class DrainedBatch(models.Model):
    """A batch of counts that has been written down, should the place it came from still have it."""

    id = models.CharField(_("id"), primary_key=True, max_length=32)
    at = models.DateTimeField(_("at"), default=timezone.now)

    class Meta:
        verbose_name = _("drained batch")
        verbose_name_plural = _("drained batches")

    def __str__(self) -> str:
        return self.id


def _refuse() -> NoReturn:
    raise TypeError("Audit events are appended, never changed; purge() deletes those whose time is over.")

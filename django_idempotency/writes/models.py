"""The tables of the windows: what was seen, and until when its like is a duplicate."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from django.db import connections, models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.retention import Retention, register


class ExpiringQuerySet(models.QuerySet[Any]):
    """Rows with a time after which they only take up space."""

    def expired(self) -> Self:
        """Narrow down to what may be purged, by the clock of the database if it has one."""
        now = Now() if connections[self.db].vendor == "postgresql" else timezone.now()
        return self.filter(expires_at__lte=now)


class DedupEntry(models.Model):
    """What a window has accepted: one row a payload, renewed when its like is accepted again."""

    name = models.CharField(_("window"), max_length=100)
    digest = models.BinaryField(_("digest"), max_length=32, help_text=_("Keyed: the payload is not kept."))
    first_seen_at = models.DateTimeField(_("first seen"), help_text=_("When it was accepted."))
    last_seen_at = models.DateTimeField(_("last seen"), help_text=_("Of duplicates only where they are tracked."))
    expires_at = models.DateTimeField(_("expires"), help_text=_("From then on its like is accepted again."))
    hits = models.PositiveIntegerField(_("duplicates"), default=0, help_text=_("Only where they are tracked."))

    objects = ExpiringQuerySet.as_manager()

    class Meta:
        verbose_name = _("window entry")
        verbose_name_plural = _("window entries")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["digest"], name="idempotency_dedupentry_digest"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="idempotency_dedupentry_expires"),
            models.Index(fields=["name", "id"], name="idempotency_dedupentry_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {bytes(self.digest[:4]).hex()}"


class DedupInterval(models.Model):
    """What a window by event time has accepted: a payload and the stretch of time that it covers.

    No two of one payload overlap: on PostgreSQL a constraint sees to that, on SQLite its one writer.
    """

    name = models.CharField(_("window"), max_length=100)
    digest = models.BinaryField(_("digest"), max_length=32, help_text=_("Keyed: the payload is not kept."))
    starts_at = models.DateTimeField(_("starts"), help_text=_("The time of the event."))
    ends_at = models.DateTimeField(_("ends"))
    seen_at = models.DateTimeField(_("seen"), help_text=_("When it was accepted."))
    expires_at = models.DateTimeField(_("expires"), help_text=_("From then on it may be purged."))

    objects = ExpiringQuerySet.as_manager()

    class Meta:
        verbose_name = _("window interval")
        verbose_name_plural = _("window intervals")
        indexes: ClassVar = [
            models.Index(fields=["digest", "starts_at"], name="idempotency_dedupinterval_look"),
            models.Index(fields=["expires_at"], name="idempotency_dedupinterval_exp"),
            models.Index(fields=["name", "id"], name="idempotency_dedupinterval_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {bytes(self.digest[:4]).hex()}"


def _expired_entries(alias: str) -> models.QuerySet[DedupEntry]:
    return DedupEntry.objects.using(alias).expired()


def _expired_intervals(alias: str) -> models.QuerySet[DedupInterval]:
    return DedupInterval.objects.using(alias).expired()


register(Retention(name="windows", model=DedupEntry, expired=_expired_entries, order_by="expires_at"))
register(Retention(name="window_intervals", model=DedupInterval, expired=_expired_intervals, order_by="expires_at"))

"""The table of audit events: rows are added, and purged when their time is over, but never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, ClassVar, NoReturn

from django.db import connections, models, router, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.audit.triggers import PURGE_SETTING
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
        while size := self._purge_batch(self.expired(before), batch_size):
            yield size

    def _purge_batch(self, expired: AuditEventQuerySet, size: int) -> int:
        alias: str = getattr(self, "_db", None) or router.db_for_write(self.model)
        batch = expired.using(alias).select_for_update(skip_locked=True).order_by("at").values("pk")[:size]
        with transaction.atomic(using=alias, durable=True):
            if connections[alias].vendor == "postgresql":
                with connections[alias].cursor() as cursor:
                    cursor.execute("SELECT set_config(%s, 'on', true)", [PURGE_SETTING])
            # Not delete(): that is refused here, and loads the rows first where somebody listens to deletions.
            rows: Any = models.QuerySet(self.model, using=alias).filter(pk__in=batch)
            return int(rows._raw_delete(alias))

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
        """What happened."""

        RELEASED = "released", _("released")
        RESOLVED_DONE = "resolved_done", _("resolved as done")
        RESOLVED_NOT_DONE = "resolved_not_done", _("resolved as not done")

    event = models.CharField(_("event"), max_length=32, choices=Event)
    digest = models.BinaryField(_("digest"), max_length=32)
    operation = models.TextField(_("operation"), help_text=_("Method and route."))
    scope = models.TextField(_("scope"), help_text=_("Tenant and principal, as resolved by the server."))
    attempt = models.PositiveIntegerField(_("attempt"))
    actor = models.TextField(_("actor"))
    reason = models.TextField(_("reason"))
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


def _refuse() -> NoReturn:
    raise TypeError("Audit events are appended, never changed; purge() deletes those whose time is over.")

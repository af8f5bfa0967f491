"""The table of the model-backed store."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class Record(models.Model):
    """What is known of one operation: who asked for what, and what came of it."""

    class Status(models.TextChoices):
        """Where the operation stands. Operations under a transaction claim appear only once they are completed.

        Released operations were begun and given up, after steps that a retry need not take again.
        """

        IN_PROGRESS = "in_progress", _("in progress")
        RELEASED = "released", _("released")
        COMPLETED = "completed", _("completed")
        UNKNOWN = "unknown", _("unknown")

    digest = models.BinaryField(_("digest"), max_length=32)
    scope = models.TextField(_("scope"), help_text=_("Tenant and principal, as resolved by the server."))
    operation = models.TextField(_("operation"), help_text=_("Method and route."))
    key = models.CharField(_("key"), max_length=255, blank=True)
    fingerprint = models.BinaryField(_("fingerprint"), max_length=32)
    fingerprint_version = models.PositiveSmallIntegerField(_("fingerprint version"))
    fingerprint_secret = models.CharField(_("fingerprint secret id"), max_length=16)
    status = models.CharField(_("status"), max_length=16, choices=Status)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    owner = models.UUIDField(_("owner token"), null=True)
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True)
    steps = models.JSONField(_("steps"), null=True, help_text=_("Outside calls that were begun or done."))
    response_status = models.PositiveSmallIntegerField(_("response status"), null=True)
    response_headers = models.JSONField(_("response headers"), default=list)
    response_body = models.BinaryField(_("response body"), null=True)
    sealed_with = models.CharField(
        _("encryption key id"),
        max_length=16,
        blank=True,
        default="",
        db_default="",
        help_text=_("Of the key that response headers and body are encrypted with; empty where they are not."),
    )
    outcome_hash = models.BinaryField(_("outcome hash"), max_length=32, null=True)
    created_at = models.DateTimeField(_("created"))
    completed_at = models.DateTimeField(_("completed"), null=True)
    expires_at = models.DateTimeField(_("expires"))
    duration = models.FloatField(_("duration"), null=True, help_text=_("Seconds."))
    request_id = models.CharField(_("request id"), max_length=255, blank=True, default="", db_default="")
    about = models.CharField(
        _("about"),
        max_length=255,
        blank=True,
        default="",
        db_default="",
        help_text=_("What the view named: app.model:id."),
    )

    class Meta:
        verbose_name = _("record")
        verbose_name_plural = _("records")
        permissions: ClassVar = [
            ("reveal_body", "Can see whole keys and reveal bodies"),
            ("release_record", "Can release stuck keys and expire records"),
            ("resolve_record", "Can resolve unknown outcomes"),
            ("erase_record", "Can erase bodies"),
            ("export_record", "Can export records and audit events"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["digest"], name="idempotency_record_digest"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="idempotency_record_expires"),
            models.Index(fields=["completed_at"], name="idempotency_record_completed"),
            models.Index(fields=["key"], condition=~models.Q(key=""), name="idempotency_record_key"),
            models.Index(fields=["request_id"], condition=~models.Q(request_id=""), name="idempotency_record_request"),
            models.Index(
                fields=["sealed_with", "id"], condition=~models.Q(sealed_with=""), name="idempotency_record_sealed"
            ),
            models.Index(fields=["scope", "id"], name="idempotency_record_scope"),
            models.Index(fields=["id"], condition=~models.Q(status="completed"), name="idempotency_record_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {bytes(self.digest[:4]).hex()}"

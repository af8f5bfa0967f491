"""The tables of watermarks and of the versions of projections."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class WatermarkRow(models.Model):
    """How far a source has been worked through."""

    name = models.CharField(_("name"), max_length=200)
    partition = models.CharField(_("partition"), max_length=200, blank=True, default="")
    kind = models.CharField(_("type"), max_length=100, help_text=_("What positions are."))
    position = models.TextField(_("position"), blank=True, default="", help_text=_("Empty at the start."))
    moves = models.PositiveBigIntegerField(_("moves"), default=0)
    moved_at = models.DateTimeField(_("moved"), null=True)

    class Meta:
        verbose_name = _("watermark")
        verbose_name_plural = _("watermarks")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "partition"], name="idempotency_watermarkrow_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.partition}".strip()


class Generation(models.Model):
    """One version of a projection: a table of its own, and where it stands."""

    class State(models.TextChoices):
        """What has become of it. One version of a projection is live."""

        BUILDING = "building", _("building")
        BUILT = "built", _("built")
        LIVE = "live", _("live")
        RETIRED = "retired", _("retired")
        DROPPED = "dropped", _("dropped")

    projection = models.CharField(_("projection"), max_length=200)
    version = models.PositiveIntegerField(_("version"))
    table = models.CharField(_("table"), max_length=200, help_text=_("Where its rows are now."))
    state = models.CharField(_("state"), max_length=16, choices=State)
    rows_read = models.PositiveBigIntegerField(_("rows read"), default=0, help_text=_("Of the source."))
    created_at = models.DateTimeField(_("begun"))
    built_at = models.DateTimeField(_("built"), null=True)
    verified_at = models.DateTimeField(_("verified"), null=True)
    promoted_at = models.DateTimeField(_("promoted"), null=True)
    retired_at = models.DateTimeField(_("retired"), null=True)

    class Meta:
        verbose_name = _("projection version")
        verbose_name_plural = _("projection versions")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["projection", "version"], name="idempotency_generation_version"),
            models.UniqueConstraint(
                fields=["projection"], condition=models.Q(state="live"), name="idempotency_generation_live"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.projection} v{self.version}"

"""The table of hourly sums, from which charts and rates are drawn."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

#: Upper bounds in seconds of the classes of durations; a last class has none.
DURATION_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Rollup(models.Model):
    """How often an outcome came of an operation within one hour, and how long that took."""

    hour = models.DateTimeField(_("hour"), help_text=_("When it began."))
    layer = models.CharField(_("layer"), max_length=16)
    operation = models.TextField(_("operation"))
    outcome = models.CharField(_("outcome"), max_length=32)
    count = models.PositiveBigIntegerField(_("count"))
    duration_sum = models.FloatField(_("sum of durations"), default=0.0, help_text=_("Seconds."))
    durations = models.JSONField(_("durations"), default=list, help_text=_("How many by class of duration."))

    class Meta:
        verbose_name = _("hourly sum")
        verbose_name_plural = _("hourly sums")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["hour", "layer", "operation", "outcome"], name="idempotency_rollup_hour_outcome"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.operation} {self.outcome}"

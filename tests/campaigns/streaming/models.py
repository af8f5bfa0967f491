"""What the campaign of streams derives from events: it tells by itself what was applied twice, or out of order."""

from __future__ import annotations

from django.db import models

from django_idempotency.streams import Positioned


class RunningTotal(Positioned):
    """The sum of an account, and how often an event was not the one after the last."""

    account = models.CharField(max_length=32, primary_key=True)
    total = models.BigIntegerField()
    events = models.IntegerField()
    last_sequence = models.IntegerField()
    disorders = models.IntegerField()

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return f"{self.account} {self.total}"

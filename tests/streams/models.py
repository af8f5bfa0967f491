"""What events come to."""

from __future__ import annotations

from django.db import models

from django_idempotency.streams import Positioned


class Handled(models.Model):
    """One row for each time that an event was handled."""

    key = models.CharField(max_length=40)
    number = models.IntegerField()

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return f"{self.key} {self.number}"


class Sum(models.Model):
    """An additive view: what is applied twice shows."""

    key = models.CharField(max_length=40, unique=True)
    total = models.BigIntegerField(default=0)
    last = models.IntegerField(default=0)
    changed = models.DateTimeField(auto_now=True)
    made = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return f"{self.key} {self.total}"


class PositionedSum(Positioned):
    """One that keeps what it is from."""

    number = models.IntegerField(unique=True)
    total = models.BigIntegerField()

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return f"{self.number} {self.total}"

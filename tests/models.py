"""An effect that must not happen twice."""

from django.db import models


class Payment(models.Model):
    """One row a payment."""

    reference = models.CharField(max_length=64, default="")
    amount = models.IntegerField()

    class Meta:
        app_label = "tests"

"""An effect that must not happen twice."""

from django.db import models


class Payment(models.Model):
    """One row a payment."""

    reference = models.CharField(max_length=64, default="")
    amount = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.reference} {self.amount}"

    class Meta:
        app_label = "tests"


# Models of one room's tests, to be found by Django with the others.
from tests.reprocessing.models import Entry, NamedTotal, Total  # noqa: E402, F401

"""An effect that must not happen twice."""

from django.db import models

from tests.writes.models import Booking, Fact, Hostile, Named, Numbered, PlainBooking, Position, Price, Reading

__all__ = ["Booking", "Fact", "Hostile", "Named", "Numbered", "Payment", "PlainBooking", "Position", "Price", "Reading"]


class Payment(models.Model):
    """One row a payment."""

    reference = models.CharField(max_length=64, default="")
    amount = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.reference} {self.amount}"

    class Meta:
        app_label = "tests"

"""An effect that must not happen twice."""

from django.db import models

from django_idempotency.objects import ContentAddressedFileField
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


class Document(models.Model):
    """Refers to content."""

    file_name = models.CharField(max_length=40, default="")
    file = ContentAddressedFileField(filename_field="file_name", blank=True)
    copy = ContentAddressedFileField(blank=True)

    def __str__(self) -> str:
        return self.file_name

    class Meta:
        app_label = "tests"


# Models of one room's tests, to be found by Django with the others.
from tests.campaigns.streaming.models import RunningTotal  # noqa: E402, F401
from tests.reprocessing.models import Entry, NamedTotal, Total  # noqa: E402, F401
from tests.streams.models import Handled, PositionedSum, Sum  # noqa: E402, F401

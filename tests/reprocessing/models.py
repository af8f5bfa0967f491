"""A source, and what is derived from it."""

from django.db import models
from django.utils import timezone

from django_idempotency.reprocessing import TransactionIdField


class Entry(models.Model):
    """An amount on an account."""

    account = models.CharField(max_length=16)
    amount = models.IntegerField()
    at = models.DateTimeField(default=timezone.now)
    transaction = TransactionIdField()

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return f"{self.account} {self.amount}"


class Total(models.Model):
    """What an account comes to, read through a view."""

    account = models.CharField(max_length=16, primary_key=True)
    amount = models.BigIntegerField(default=0)
    entries = models.IntegerField(default=0)

    class Meta:
        app_label = "tests"
        db_table = "tests_total"
        managed = False
        indexes = [models.Index(fields=["amount"], name="tests_total_amount")]

    def __str__(self) -> str:
        return self.account


class NamedTotal(models.Model):
    """The same in a table that has the name itself, with keys that a sequence gives out."""

    account = models.CharField(max_length=16, unique=True)
    amount = models.BigIntegerField(default=0)
    entries = models.IntegerField(default=0)

    class Meta:
        app_label = "tests"
        db_table = "tests_named_total"
        managed = False
        indexes = [models.Index(fields=["amount"], name="tests_named_amount")]
        constraints = [models.CheckConstraint(condition=models.Q(entries__gte=0), name="tests_named_entries")]

    def __str__(self) -> str:
        return self.account

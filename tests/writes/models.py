"""Tables that rows are upserted into."""

from __future__ import annotations

import uuid

from django.db import models

from django_idempotency.writes import UpsertMixin


class Price(UpsertMixin):
    """With a hash, a revision, and every kind of column that has more than one spelling."""

    tenant = models.CharField(max_length=20)
    sku = models.IntegerField()
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    valid_from = models.DateTimeField(null=True)
    attrs = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        app_label = "tests"
        constraints = [models.UniqueConstraint(fields=["tenant", "sku"], name="tests_price_key")]

    class Upsert:
        key = ("tenant", "sku")

    def __str__(self) -> str:
        return f"{self.tenant} {self.sku}"


class Position(UpsertMixin):
    """With a version of its source."""

    ship = models.CharField(max_length=20, unique=True)
    port = models.CharField(max_length=20)
    seen = models.IntegerField()

    class Meta:
        app_label = "tests"

    class Upsert:
        key = "ship"
        version = "seen"

    def __str__(self) -> str:
        return self.ship


class Fact(models.Model):
    """With nothing but its own columns."""

    biz_key = models.CharField(max_length=40, unique=True)
    amount = models.IntegerField(null=True)
    note = models.TextField(default="")

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.biz_key


class Named(models.Model):
    """Its primary key is given by those who make it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    code = models.CharField(max_length=20, unique=True)
    fact = models.ForeignKey(Fact, on_delete=models.CASCADE, null=True)
    data = models.BinaryField(default=b"")
    day = models.DateField(null=True)
    took = models.DurationField(null=True)
    ratio = models.FloatField(null=True)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.code


class Numbered(models.Model):
    """With a revision of its own, that begins with 0."""

    number = models.IntegerField(primary_key=True)
    text = models.TextField()
    edition = models.IntegerField(default=0)

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.text


class Hostile(UpsertMixin):
    """With names that must be quoted."""

    key = models.CharField(max_length=20, unique=True, db_column="order")
    percent = models.IntegerField(db_column="50% off")
    placeholder = models.IntegerField(db_column="%s")
    quote = models.IntegerField(db_column='say "when"')
    semicolon = models.IntegerField(db_column="x; DROP TABLE tests_fact")

    class Meta:
        app_label = "tests"
        db_table = 'select "all" 100%'
        managed = False

    class Upsert:
        key = ("key",)

    def __str__(self) -> str:
        return self.key


class Reading(UpsertMixin):
    """Of a table in partitions, as PostgreSQL has them: the primary key has the day in it."""

    pk = models.CompositePrimaryKey("id", "day")
    id = models.UUIDField(default=uuid.uuid4)
    day = models.DateField()
    sensor = models.CharField(max_length=20)
    value = models.IntegerField()

    class Meta:
        app_label = "tests"
        managed = False
        constraints = [models.UniqueConstraint(fields=["day", "sensor"], name="tests_reading_key")]

    class Upsert:
        key = ("day", "sensor")

    def __str__(self) -> str:
        return self.sensor


class PlainBooking(models.Model):
    """What a nightly file brings, as a model that knows nothing of upserts."""

    biz_key = models.CharField(max_length=40, unique=True)
    amount = models.IntegerField()
    note = models.CharField(max_length=100)
    booked_at = models.DateTimeField()

    class Meta:
        app_label = "tests"

    def __str__(self) -> str:
        return self.biz_key


class Booking(UpsertMixin):
    """The same with the mixin."""

    biz_key = models.CharField(max_length=40, unique=True)
    amount = models.IntegerField()
    note = models.CharField(max_length=100)
    booked_at = models.DateTimeField()

    class Meta:
        app_label = "tests"

    class Upsert:
        key = ("biz_key",)

    def __str__(self) -> str:
        return self.biz_key

"""The tables of streams: what waits to be published, what was consumed, how far, and what could not be handled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Self

from django.db import connections, models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


def now(alias: str) -> Any:
    """Return the time, by the clock of the database if it has one."""
    return Now() if connections[alias].vendor == "postgresql" else timezone.now()


def ago(alias: str, age: timedelta) -> Any:
    """Return a time before now."""
    return now(alias) - age


class OutboxQuerySet(models.QuerySet[Any]):
    """Events on their way to a broker."""

    def pending(self) -> Self:
        """Narrow down to what is still to be published."""
        return self.filter(status=OutboxEvent.Status.PENDING)

    def published(self) -> Self:
        """Narrow down to what the broker has."""
        return self.filter(status=OutboxEvent.Status.PUBLISHED)

    def parked(self) -> Self:
        """Narrow down to what the broker has refused."""
        return self.filter(status=OutboxEvent.Status.PARKED)


class OutboxEvent(models.Model):
    """An event that was published in a transaction; its ``id`` is its place in the order of its business key."""

    class Status(models.TextChoices):
        """Where it is."""

        PENDING = "pending", _("pending")
        PUBLISHED = "published", _("published")
        PARKED = "parked", _("parked")

    event_id = models.UUIDField(_("event id"), help_text=_("Fixed when it was published; consumers know it by this."))
    topic = models.CharField(_("topic"), max_length=249)
    business_key = models.CharField(
        _("business key"), max_length=255, help_text=_("Events of one key keep their order.")
    )
    payload = models.BinaryField(_("payload"), null=True, help_text=_("NULL tells that the key is gone."))
    headers = models.JSONField(_("headers"), default=dict)
    lane = models.SmallIntegerField(_("lane"), help_text=_("All events of a key are in one."))
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.PENDING)
    attempts = models.PositiveIntegerField(_("attempts"), default=0, help_text=_("That have failed."))
    error = models.TextField(_("error"), blank=True, default="")
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    published_at = models.DateTimeField(_("published"), null=True)

    objects = OutboxQuerySet.as_manager()

    class Meta:
        verbose_name = _("outbox event")
        verbose_name_plural = _("outbox events")
        permissions: ClassVar = [("settle_outboxevent", "Can retry or drop events that the broker has refused")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event_id"], name="idempotency_outboxevent_event"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["lane", "id"], condition=Q(status="pending"), name="idempotency_outbox_pending"),
            models.Index(fields=["id"], condition=Q(status="parked"), name="idempotency_outbox_parked"),
            models.Index(fields=["published_at"], name="idempotency_outbox_published"),
            models.Index(fields=["topic", "business_key", "id"], name="idempotency_outbox_key"),
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.event_id}"


class OutboxLane(models.Model):
    """A share of the business keys. The relay that has the row locked is the one that publishes them."""

    number = models.SmallIntegerField(_("number"), primary_key=True)

    class Meta:
        verbose_name = _("outbox lane")
        verbose_name_plural = _("outbox lanes")

    def __str__(self) -> str:
        return str(self.number)


class ConsumedEvent(models.Model):
    """The inbox: an event that a group has seen, which is never handled again by it."""

    class Outcome(models.TextChoices):
        """What came of it."""

        EXECUTED = "executed", _("executed")
        FAILED = "failed", _("failed")
        REJECTED = "rejected", _("rejected")
        EXPIRED = "expired", _("expired")

    group = models.CharField(_("group"), max_length=100)
    event_id = models.UUIDField(_("event id"))
    topic = models.CharField(_("topic"), max_length=249)
    partition = models.IntegerField(_("partition"))
    offset = models.BigIntegerField(_("offset"))
    business_key = models.CharField(_("business key"), max_length=255)
    event_at = models.DateTimeField(_("event time"), help_text=_("By which it is purged."))
    consumed_at = models.DateTimeField(_("consumed"))
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome, default=Outcome.EXECUTED)

    class Meta:
        verbose_name = _("consumed event")
        verbose_name_plural = _("consumed events")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group", "event_id"], name="idempotency_consumed_event"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["event_at"], name="idempotency_consumed_event_at"),
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.event_id}"


class ConsumerOffset(models.Model):
    """How far a group has got in a partition. The row is locked while a batch is handled."""

    group = models.CharField(_("group"), max_length=100)
    topic = models.CharField(_("topic"), max_length=249)
    partition = models.IntegerField(_("partition"))
    next_offset = models.BigIntegerField(_("next offset"), help_text=_("What lies before it is handled."))
    read_offset = models.BigIntegerField(
        _("read offset"), help_text=_("Where it reads; a rewind begins before the next one.")
    )
    end_offset = models.BigIntegerField(
        _("end offset"), null=True, help_text=_("Where the partition ended, last time.")
    )
    incarnation = models.CharField(_("incarnation"), max_length=100, blank=True, default="")
    epoch = models.PositiveIntegerField(_("epoch"), default=0, help_text=_("How often the partition has begun anew."))
    member = models.CharField(_("member"), max_length=100, blank=True, default="", help_text=_("Who reads it."))
    moved_at = models.DateTimeField(_("moved"), null=True)

    class Meta:
        verbose_name = _("consumer offset")
        verbose_name_plural = _("consumer offsets")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group", "topic", "partition"], name="idempotency_offset_partition"),
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.topic}/{self.partition}"

    @property
    def lag(self) -> int | None:
        """How many records were still to be handled when the end was last seen."""
        return None if self.end_offset is None else max(0, self.end_offset - self.next_offset)

    @property
    def is_replaying(self) -> bool:
        """Whether it reads again what was handled before."""
        return self.read_offset < self.next_offset


class ParkedQuerySet(models.QuerySet[Any]):
    """Events that could not be handled."""

    def parked(self) -> Self:
        """Narrow down to those that wait for a decision."""
        return self.filter(status=ParkedEvent.Status.PARKED)


class ParkedEvent(models.Model):
    """A record that could not be handled, as it came, to be retried or dropped by somebody."""

    class Kind(models.TextChoices):
        """Why."""

        REJECTED = "rejected", _("cannot be read")
        FAILED = "failed", _("its handler fails")

    class Status(models.TextChoices):
        """What was decided."""

        PARKED = "parked", _("parked")
        RETRIED = "retried", _("retried")
        DROPPED = "dropped", _("dropped")

    group = models.CharField(_("group"), max_length=100)
    topic = models.CharField(_("topic"), max_length=249)
    partition = models.IntegerField(_("partition"))
    offset = models.BigIntegerField(_("offset"))
    epoch = models.PositiveIntegerField(_("epoch"), default=0)
    event_id = models.UUIDField(_("event id"), null=True)
    business_key = models.CharField(_("business key"), max_length=255, blank=True, default="")
    record_key = models.BinaryField(_("key as it came"), null=True)
    payload = models.BinaryField(_("payload"), null=True)
    headers = models.JSONField(_("headers"), default=list)
    recorded_at = models.DateTimeField(_("recorded"), null=True, help_text=_("By the broker."))
    kind = models.CharField(_("kind"), max_length=16, choices=Kind)
    reason = models.TextField(_("reason"))
    attempts = models.PositiveIntegerField(_("attempts"), default=1)
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.PARKED)
    parked_at = models.DateTimeField(_("parked"))
    settled_at = models.DateTimeField(_("settled"), null=True)

    objects = ParkedQuerySet.as_manager()

    class Meta:
        verbose_name = _("parked event")
        verbose_name_plural = _("parked events")
        permissions: ClassVar = [("settle_parkedevent", "Can retry or drop parked events")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["group", "topic", "partition", "epoch", "offset"], name="idempotency_parked_position"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(status="parked"), name="idempotency_parked_open"),
            models.Index(fields=["settled_at"], name="idempotency_parked_settled"),
            models.Index(fields=["group", "id"], name="idempotency_parked_group"),
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.topic}/{self.partition}@{self.offset}"


class RetentionFloor(models.Model):
    """Before this time nothing is remembered: an event that is older cannot be told from one that was handled."""

    name = models.CharField(_("name"), max_length=100)
    floor = models.DateTimeField(_("floor"), null=True)
    moved_at = models.DateTimeField(_("moved"), null=True)

    class Meta:
        verbose_name = _("retention floor")
        verbose_name_plural = _("retention floors")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name"], name="idempotency_floor_name"),
        ]

    def __str__(self) -> str:
        return self.name

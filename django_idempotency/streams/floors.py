"""The retention floor: before it nothing is remembered, so that what is older must not be handled as new.

It moves in the transaction that forgets. Whoever enters events reads it afterwards, with a lock that the purge waits
for: either their row was still there, or they see the floor that has passed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import connections, models, transaction
from django.db.models import Q

from django_idempotency.conf import settings
from django_idempotency.retention import Retention, register
from django_idempotency.streams.models import ConsumedEvent, OutboxEvent, ParkedEvent, RetentionFloor, ago, now

INBOX = "inbox"


def ensure(alias: str) -> None:
    """Have the row that is locked."""
    rows = RetentionFloor.objects.using(alias)
    if not rows.filter(name=INBOX).exists():
        rows.bulk_create([RetentionFloor(name=INBOX)], ignore_conflicts=True)


def read(alias: str) -> datetime | None:
    """Return the floor, which stays there until the transaction ends; None if nothing was ever forgotten."""
    rows = RetentionFloor.objects.using(alias).filter(name=INBOX)
    if connections[alias].vendor != "postgresql":
        return rows.values_list("floor", flat=True).first()
    quote = connections[alias].ops.quote_name
    with connections[alias].cursor() as cursor:
        table = quote(RetentionFloor._meta.db_table)
        cursor.execute(f"SELECT {quote('floor')} FROM {table} WHERE {quote('name')} = %s FOR SHARE", [INBOX])
        row: tuple[datetime | None] | None = cursor.fetchone()
    return row[0] if row else None


class InboxRetention(Retention):
    """Forgets events by the time at which they were published, which is the same for each copy of them."""

    __slots__ = ()

    def purge(self, alias: str, *, batch_size: int) -> Iterator[int]:
        """Delete in batches, each in the transaction that has moved the floor before it."""
        while size := self._purge_batch(alias, batch_size):
            yield size

    def _purge_batch(self, alias: str, size: int) -> int:
        with transaction.atomic(using=alias, durable=True):
            expired = self.expired(alias).order_by("event_at")[:size]
            keys = list(expired.values_list("pk", "event_at"))
            if not keys:
                return 0
            ensure(alias)
            self._raise_floor(alias)
            rows: Any = models.QuerySet(ConsumedEvent, using=alias).filter(pk__in=[pk for pk, _ in keys])
            return int(rows._raw_delete(alias))

    def _raise_floor(self, alias: str) -> None:
        """Have everything refused that this purge might delete; the row is locked until the transaction ends."""
        floor = ago(alias, settings.inbox_ttl)
        rows = RetentionFloor.objects.using(alias).filter(name=INBOX)
        rows.filter(Q(floor=None) | Q(floor__lt=floor)).update(floor=floor, moved_at=now(alias))


register(
    InboxRetention(
        name=INBOX,
        model=ConsumedEvent,
        expired=lambda alias: ConsumedEvent.objects.using(alias).filter(event_at__lt=ago(alias, settings.inbox_ttl)),
        order_by="event_at",
    )
)
register(
    Retention(
        name="outbox",
        model=OutboxEvent,
        expired=lambda alias: OutboxEvent.objects.using(alias).filter(published_at__lt=ago(alias, settings.outbox_ttl)),
        order_by="published_at",
    )
)
register(
    Retention(
        name="parked_events",
        model=ParkedEvent,
        expired=lambda alias: ParkedEvent.objects.using(alias).filter(settled_at__lt=ago(alias, settings.inbox_ttl)),
        order_by="settled_at",
    )
)

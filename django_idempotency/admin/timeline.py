"""What happened to one operation, in order: from its record, and from the audit events of its digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.models import AuditEvent, Record

#: Events that a page shows, the newest.
SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened, or will. ``count`` says how many alike; ``kind`` names a style."""

    at: datetime
    kind: str
    label: Any
    count: int = 1
    attempt: int | None = None
    status: int | None = None
    duration: float | None = None
    actor: str = ""
    reason: str = ""
    is_ahead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Moments in order; ``is_cut`` says that there are older events."""

    moments: list[Moment]
    is_cut: bool


def timeline(record: Record, alias: str) -> Timeline:
    """Return what is known of the operation of a record."""
    newest = AuditEvent.objects.using(alias).filter(digest=bytes(record.digest)).order_by("-id")[: SHOWN + 1]
    events = list(newest)
    moments = [*_of_record(record), *map(_of_event, events[:SHOWN])]
    return Timeline(moments=sorted(moments, key=lambda moment: moment.at), is_cut=len(events) > SHOWN)


def _of_record(record: Record) -> Iterator[Moment]:
    yield Moment(at=record.created_at, kind="claimed", label=_("claimed"))
    if record.completed_at:
        yield Moment(
            at=record.completed_at,
            kind="executed",
            label=_("executed"),
            attempt=record.attempt,
            status=record.response_status,
            duration=record.duration,
        )
    now = timezone.now()
    if record.lease_expires_at:
        is_ahead = record.lease_expires_at > now
        yield Moment(
            at=record.lease_expires_at,
            kind="lease",
            label=_("lease ends") if is_ahead else _("lease ended"),
            attempt=record.attempt,
            is_ahead=is_ahead,
        )
    if record.completed_at:
        is_ahead = record.expires_at > now
        yield Moment(
            at=record.expires_at,
            kind="expired",
            label=_("expires") if is_ahead else _("expired"),
            is_ahead=is_ahead,
        )


def _of_event(event: AuditEvent) -> Moment:
    return Moment(
        at=event.at,
        kind=event.event,
        label=event.get_event_display(),
        count=event.count,
        attempt=event.attempt or None,
        status=event.status,
        duration=event.duration,
        actor=event.actor,
        reason=event.reason,
    )

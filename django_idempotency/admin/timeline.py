"""What happened to one operation, in order: from its record, and from the audit events of its digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.core.layers import layer_of
from django_idempotency.models import AuditEvent, JobRun, Record

#: Events that a page shows, the newest.
SHOWN = 200
#: What the runs of a job tell better than its record and the events of its attempts.
_OF_RUNS = frozenset({"claimed", "executed", "failed", "unknown", "expired"})


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
    runs = _runs(bytes(record.digest), alias) if layer_of(record.scope) == "jobs" else []
    return _sorted([*_of_record(record), *map(_of_event, events[:SHOWN])], runs, is_cut=len(events) > SHOWN)


def timeline_of_runs(digest: bytes, alias: str) -> Timeline:
    """Return what is known of the key of a job: its runs, its record and the events of its audit."""
    record = Record.objects.using(alias).filter(digest=digest).defer("response_body").first()
    if record:
        return timeline(record, alias)
    events = list(AuditEvent.objects.using(alias).filter(digest=digest).order_by("-id")[: SHOWN + 1])
    return _sorted([*map(_of_event, events[:SHOWN])], _runs(digest, alias), is_cut=len(events) > SHOWN)


def _sorted(moments: list[Moment], runs: list[Moment], *, is_cut: bool) -> Timeline:
    if runs:
        moments = [one for one in moments if not _is_of_run(one)] + runs
    return Timeline(moments=sorted(moments, key=lambda moment: moment.at), is_cut=is_cut)


def _is_of_run(moment: Moment) -> bool:
    return moment.kind in _OF_RUNS and (moment.attempt is not None or moment.kind == "claimed")


def _runs(digest: bytes, alias: str) -> list[Moment]:
    """Return the beginning and the end of each run of a job, the newest."""
    newest = JobRun.objects.using(alias).filter(digest=digest).order_by("-attempt")[:SHOWN]
    return [moment for run in newest for moment in _of_run(run)]


def _of_run(run: JobRun) -> Iterator[Moment]:
    begun = _("begun by force") if run.is_forced else _("begun")
    yield Moment(at=run.started_at, kind="claimed", label=begun, attempt=run.attempt, actor=run.worker)
    if run.completed_at:
        yield Moment(
            at=run.completed_at,
            kind=run.status,
            label=run.get_status_display(),
            attempt=run.attempt,
            duration=(run.completed_at - run.started_at).total_seconds(),
            reason=run.error,
        )


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

"""Parked events: what could not be handled is kept as it came, until somebody has it retried or drops it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from django_idempotency.signals import decision_made
from django_idempotency.streams.brokers import Record
from django_idempotency.streams.errors import EventRejected
from django_idempotency.streams.events import LONGEST_KEY, POSITION, Event, Reader
from django_idempotency.streams.inbox import Inbox, Outcome
from django_idempotency.streams.models import ParkedEvent, now
from django_idempotency.streams.sinks import Context, Sink, registry

_LONGEST_REASON = 2000
Kind, Status = ParkedEvent.Kind, ParkedEvent.Status


def described(error: BaseException) -> str:
    """Return what to tell of an error."""
    text = str(error) if isinstance(error, EventRejected) else f"{type(error).__name__}: {error}"
    return _storable(text)[:_LONGEST_REASON]


def parked(sink: Sink, record: Record, kind: str, error: BaseException, *, epoch: int, event: Event | None) -> Any:
    """Return the row of a record that could not be handled."""
    return ParkedEvent(
        group=sink.group,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        epoch=epoch,
        event_id=event.event_id if event else None,
        business_key=event.business_key if event else _shown(record.key)[:LONGEST_KEY],
        record_key=record.key,
        payload=record.value,
        headers=[
            [_storable(name), _storable((value or b"").decode(errors="backslashreplace"))]
            for name, value in record.headers
        ],
        recorded_at=record.at,
        kind=kind,
        reason=described(error),
        parked_at=now(sink.alias),
    )


def park(alias: str, rows: Iterable[ParkedEvent]) -> None:
    """Keep rows, those that are there already once."""
    ParkedEvent.objects.using(alias).bulk_create(list(rows), ignore_conflicts=True)


def retry(row: ParkedEvent, *, actor: str, reason: str) -> bool:
    """Handle a parked event now; tell whether that went well, else it stays parked with its new reason.

    Raises LookupError where there is no sink for it any more, ValueError where it is not parked or nobody says why.
    """
    sink = registry.find(row.topic, row.group)
    if sink is None:
        raise LookupError(f"There is no consumer of {row.topic} with the group {row.group}.")
    _check(actor, reason)
    with transaction.atomic(using=sink.alias):
        locked = _locked(sink.alias, row)
        try:
            with transaction.atomic(using=sink.alias):
                _handle(sink, locked)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            _update(sink.alias, locked, attempts=locked.attempts + 1, reason=described(error))
            _tell(sink.alias, locked, "retry_failed", actor=actor, reason=reason)
            return False
        _update(sink.alias, locked, status=Status.RETRIED, attempts=locked.attempts + 1, settled_at=now(sink.alias))
        _tell(sink.alias, locked, "retried", actor=actor, reason=reason)
    return True


def drop(row: ParkedEvent, *, actor: str, reason: str) -> None:
    """Leave a parked event unhandled for good. Raises ValueError where it is not parked or nobody says why."""
    _check(actor, reason)
    alias = row._state.db or "default"
    with transaction.atomic(using=alias):
        locked = _locked(alias, row)
        _update(alias, locked, status=Status.DROPPED, settled_at=now(alias))
        _tell(alias, locked, "dropped", actor=actor, reason=reason)


def _handle(sink: Sink, row: ParkedEvent) -> None:
    event = _read(sink, row)
    inbox = Inbox(sink.alias, sink.group)
    known = row.event_id is not None
    if not inbox.enter([event]) and not known:
        return  # one of its copies was handled
    context = Context(group=sink.group, topic=sink.topic, using=sink.alias, attempt=row.attempts + 1)
    sink.handle([event], context)
    inbox.mark([event.event_id], Outcome.EXECUTED)


def _read(sink: Sink, row: ParkedEvent) -> Event:
    """Read it again; what says no id is known by its place, since somebody wants it handled."""
    try:
        return Reader(identity=sink.event_id, epoch=row.epoch).read(_record(row))
    except EventRejected:
        return Reader(identity=POSITION, epoch=row.epoch).read(_record(row))


def _record(row: ParkedEvent) -> Record:
    return Record(
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        key=None if row.record_key is None else bytes(row.record_key),
        value=None if row.payload is None else bytes(row.payload),
        headers=tuple((name, value.encode()) for name, value in row.headers),
        at=row.recorded_at,
    )


def _locked(alias: str, row: ParkedEvent) -> ParkedEvent:
    locked: ParkedEvent = ParkedEvent.objects.using(alias).select_for_update().get(pk=row.pk)
    if locked.status != Status.PARKED:
        raise ValueError(f"It is no longer parked, but {locked.status}.")
    return locked


def _update(alias: str, row: ParkedEvent, **values: Any) -> None:
    ParkedEvent.objects.using(alias).filter(pk=row.pk).update(**values)


def _check(actor: str, reason: str) -> None:
    if not (actor and reason):
        raise ValueError("A decision needs an actor and a reason.")


def _tell(alias: str, row: ParkedEvent, action: str, *, actor: str, reason: str) -> None:
    decision_made.send(
        sender=ParkedEvent,
        using=alias,
        layer="streams",
        operation=f"{row.topic}/{row.group}",
        scope=f"partition {row.partition}",
        digest=b"",
        action=action,
        actor=actor,
        reason=reason,
    )


def _shown(value: bytes | None) -> str:
    return _storable((value or b"").decode(errors="backslashreplace"))


def _storable(text: str) -> str:
    """Escape what PostgreSQL has no place for in texts."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")

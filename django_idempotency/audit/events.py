"""The listeners that write facts down, in the transaction in which they became true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.dispatch import Signal
from django.utils import timezone

from django_idempotency import signals
from django_idempotency.audit.models import AuditEvent
from django_idempotency.audit.writing import append, append_many, append_waiting
from django_idempotency.conf import settings

Event = AuditEvent.Event
_KEPT = ("layer", "operation", "scope", "digest", "fingerprint", "outcome_hash", "attempt", "status", "duration")
_DECIDED = ("layer", "operation", "scope", "digest", "attempt", "actor", "reason")


def connect() -> None:
    """Listen from now on."""
    listeners: dict[Signal, Callable[..., None]] = {
        signals.operation_answered: append_answered,
        signals.batch_answered: append_batch,
        signals.operation_taken_over: append_taken_over,
        signals.operation_fenced: append_fenced,
        signals.executions_forgotten: append_forgotten,
        signals.operation_released: append_released,
        signals.operation_resolved: append_resolved,
        signals.decision_made: append_decided,
    }
    for signal, listener in listeners.items():
        signal.connect(listener, dispatch_uid="idempotency audit")


def append_answered(
    *, using: str | None, outcome: str, reason: str = "", is_last: bool = False, is_recorded: bool = False, **facts: Any
) -> None:
    """Write down what a request came to, unless a record is kept, which is the audit of its execution."""
    if is_recorded:
        append_waiting(using)
    else:
        append(using, outcome, is_last=is_last, reason=reason, **_picked(facts, _KEPT))


def append_batch(*, using: str | None, counts: Mapping[str, int], **facts: Any) -> None:
    """Write down what many requests came to, a row for each outcome."""
    for outcome, count in counts.items() if using is not None else ():
        if count:
            append(using, outcome, count=count, **_picked(facts, _KEPT))


def append_forgotten(*, using: str | None, layer: str, executions: Sequence[Mapping[str, Any]], **facts: Any) -> None:
    """Write down what was executed, now that its record is gone, unless the time of such an event is over too."""
    since = timezone.now() - settings.audit_ttl
    append_many(using, [{**told, "event": Event.EXECUTED, "layer": layer} for told in executions if told["at"] > since])


def append_taken_over(*, using: str | None, **facts: Any) -> None:
    """Write down that an attempt has taken the place of another."""
    append(using, Event.TAKEN_OVER, **_picked(facts, _DECIDED))


def append_fenced(*, using: str | None, **facts: Any) -> None:
    """Write down that an attempt has come too late."""
    append(using, Event.FENCED, **_picked(facts, _DECIDED))


def append_released(*, using: str | None, **facts: Any) -> None:
    """Write down that a key was freed."""
    append(using, Event.RELEASED, **_picked(facts, _DECIDED))


def append_resolved(*, using: str | None, is_done: bool, **facts: Any) -> None:
    """Write down what is said to have come of an operation."""
    event = Event.RESOLVED_DONE if is_done else Event.RESOLVED_NOT_DONE
    append(using, event, **_picked(facts, _DECIDED))


def append_decided(*, using: str | None, action: str, **facts: Any) -> None:
    """Write down what somebody did by hand, under the name of what they did."""
    append(using, action, **_picked(facts, _DECIDED))


def _picked(facts: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: facts[name] for name in names if name in facts}

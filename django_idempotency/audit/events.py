"""The listener that writes facts down, in the transaction in which they became true."""

from __future__ import annotations

from typing import Any

from django_idempotency.audit.models import AuditEvent
from django_idempotency.signals import decision_made, operation_released, operation_resolved

_FACTS = ("layer", "digest", "operation", "scope", "attempt", "actor", "reason")


def connect() -> None:
    """Listen from now on."""
    operation_released.connect(append_released, dispatch_uid="idempotency audit")
    operation_resolved.connect(append_resolved, dispatch_uid="idempotency audit")
    decision_made.connect(append_decided, dispatch_uid="idempotency audit")


def append_decided(*, action: str, scope: str = "", digest: bytes = b"", attempt: int = 0, **facts: Any) -> None:
    """Write down what somebody did by hand, under the name of what they did."""
    _append(action, {**facts, "scope": scope, "digest": digest, "attempt": attempt})


def append_released(**facts: Any) -> None:
    """Write down that a key was freed."""
    _append(AuditEvent.Event.RELEASED, facts)


def append_resolved(*, is_done: bool, **facts: Any) -> None:
    """Write down what is said to have come of an operation."""
    _append(AuditEvent.Event.RESOLVED_DONE if is_done else AuditEvent.Event.RESOLVED_NOT_DONE, facts)


def _append(event: str, facts: dict[str, Any]) -> None:
    events = AuditEvent.objects.using(facts["using"])
    events.append(event=event, **{name: facts[name] for name in _FACTS})

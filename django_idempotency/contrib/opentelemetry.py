"""OpenTelemetry: what came of an operation on the span in which it was asked for, and where it was first executed.

``INSTALLED_APPS += ["django_idempotency.contrib.opentelemetry.OpenTelemetryConfig"]`` is all; spans are made elsewhere,
as by ``opentelemetry-instrumentation-django``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _
from opentelemetry import trace
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from django_idempotency import signals
from django_idempotency.audit.commits import after_commit, at_once, when_true
from django_idempotency.core import notes

_NOTE = "traceparent"
_SHOWN = 8  # bytes of the digest, as in the log
_propagator = TraceContextTextMapPropagator()


class OpenTelemetryConfig(AppConfig):
    """Listens when Django has started."""

    name = "django_idempotency.contrib.opentelemetry"
    label = "idempotency_opentelemetry"
    verbose_name = _("Idempotency spans")

    def ready(self) -> None:
        """Listen."""
        connect()


def connect() -> None:
    """Describe spans from now on, and note with each outcome which span it comes from."""
    for signal, listener in _LISTENERS:
        signal.connect(listener, dispatch_uid="idempotency spans")
    notes.register(_NOTE, traceparent)


def disconnect() -> None:
    """Leave spans alone."""
    for signal, _listener in _LISTENERS:
        signal.disconnect(dispatch_uid="idempotency spans")
    notes.unregister(_NOTE)


def traceparent() -> str:
    """Return the current span as the header of that name (W3C Trace Context) has it, empty where there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(_NOTE, "")


def describe_answered(*, using: str | None, outcome: str, **facts: Any) -> None:
    """Set ``idempotency.*`` on the current span; link a replay to the span that executed the operation."""
    span = trace.get_current_span()
    if not span.is_recording():
        return
    attributes = _attributes(facts) | {"idempotency.outcome": outcome}
    if reason := facts.get("reason"):
        attributes["idempotency.reason"] = reason
    origin = (facts.get("notes") or {}).get(_NOTE, "") if outcome == "replayed" else ""
    when_true(using, outcome, partial(_describe, span, attributes, origin))


def describe_batch(*, using: str | None, counts: dict[str, int], **facts: Any) -> None:
    """Add an event with the numbers of a batch to the current span."""
    numbers = {f"idempotency.count.{outcome}": count for outcome, count in counts.items()}
    _add_event("idempotency.batch", using, facts, numbers)


def describe_taken_over(*, using: str | None, **facts: Any) -> None:
    """Add an event to the span of the attempt that has taken over."""
    _add_event("idempotency.taken_over", using, facts)


def describe_fenced(*, using: str | None, **facts: Any) -> None:
    """Add an event to the span of the attempt that came too late; its transaction is the one that does not commit."""
    _add_event("idempotency.fenced", None, facts)


_LISTENERS = (
    (signals.operation_answered, describe_answered),
    (signals.batch_answered, describe_batch),
    (signals.operation_taken_over, describe_taken_over),
    (signals.operation_fenced, describe_fenced),
)


def _attributes(facts: dict[str, Any]) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "idempotency.layer": facts.get("layer", ""),
        "idempotency.operation": facts.get("operation", ""),
    }
    if digest := facts.get("digest"):
        attributes["idempotency.digest"] = bytes(digest)[:_SHOWN].hex()
    if attempt := facts.get("attempt"):
        attributes["idempotency.attempt"] = attempt
    return attributes


def _describe(span: Span, attributes: dict[str, str | int], origin: str) -> None:
    if span.is_recording():  # not where it ended before an outer transaction did
        span.set_attributes(attributes)
        if origin:
            first = trace.get_current_span(_propagator.extract({_NOTE: origin})).get_span_context()
            if first.is_valid:
                span.add_link(first, {"idempotency.link": "executed"})


def _add_event(name: str, using: str | None, facts: dict[str, Any], more: dict[str, int] | None = None) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        tell = partial(span.add_event, name, {**_attributes(facts), **(more or {})})
        after_commit(using, tell) if using else at_once(tell)

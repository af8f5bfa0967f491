"""What spans tell of operations, and where they lead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import AppConfig
from django.db import transaction
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from django_idempotency import signals
from django_idempotency.contrib import opentelemetry
from django_idempotency.core import notes
from tests.contrib.facts import COMMON, DIGEST, SECRETS, answered, attempted

EXPORTER = InMemorySpanExporter()
PROVIDER = TracerProvider()
PROVIDER.add_span_processor(SimpleSpanProcessor(EXPORTER))


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    """Spans of a project that has the app installed."""
    config = AppConfig.create("django_idempotency.contrib.opentelemetry.OpenTelemetryConfig")
    config.ready()
    EXPORTER.clear()
    yield PROVIDER.get_tracer("tests")
    opentelemetry.disconnect()


def spans() -> list[ReadableSpan]:
    return list(EXPORTER.get_finished_spans())


def events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]


def test_a_span_tells_what_came_of_the_operation(tracer: Tracer) -> None:
    with tracer.start_as_current_span("POST"):
        signals.operation_answered.send(**answered("executed"))
    assert dict(spans()[0].attributes or {}) == {
        "idempotency.layer": "http",
        "idempotency.operation": "POST charge-list",
        "idempotency.outcome": "executed",
        "idempotency.attempt": 1,
        "idempotency.digest": DIGEST[:8].hex(),
    }


def test_a_refusal_tells_its_reason(tracer: Tracer) -> None:
    with tracer.start_as_current_span("POST"):
        signals.operation_answered.send(**answered("rejected", digest=b"", attempt=0, reason="missing-key"))
    attributes = spans()[0].attributes or {}
    assert attributes["idempotency.reason"] == "missing-key"
    assert not {"idempotency.digest", "idempotency.attempt"} & set(attributes)


def test_a_replay_is_linked_to_the_span_that_executed_the_operation(tracer: Tracer) -> None:
    with tracer.start_as_current_span("first"):
        kept = notes.take()
        signals.operation_answered.send(**answered("executed"))
    with tracer.start_as_current_span("retry"):
        signals.operation_answered.send(**answered("replayed", notes=notes.read(kept)))
    first, retry = spans()
    (link,) = retry.links
    assert (link.context.trace_id, link.context.span_id) == (first.context.trace_id, first.context.span_id)
    assert dict(link.attributes or {}) == {"idempotency.link": "executed"}
    assert first.links == ()


@pytest.mark.parametrize("found", [{}, None, {"traceparent": ""}, {"traceparent": "00-forged"}, {"other": "x"}])
def test_a_replay_without_a_trace_of_its_origin_has_no_link(tracer: Tracer, found: Any) -> None:
    with tracer.start_as_current_span("retry"):
        signals.operation_answered.send(**answered("replayed", notes=found))
    assert spans()[0].links == ()
    assert (spans()[0].attributes or {})["idempotency.outcome"] == "replayed"


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_on_the_span_but_a_fence_is(tracer: Tracer) -> None:
    with tracer.start_as_current_span("POST"), transaction.atomic():
        signals.operation_answered.send(**answered("executed", using="default"))
        signals.operation_taken_over.send(**attempted(using="default"))
        signals.operation_fenced.send(**attempted(using="default"))
        transaction.set_rollback(True)
    assert not spans()[0].attributes
    assert [name for name, _ in events(spans()[0])] == ["idempotency.fenced"]


@pytest.mark.django_db(transaction=True)
def test_what_commits_is_on_the_span_in_which_it_was_stated(tracer: Tracer) -> None:
    with tracer.start_as_current_span("outer"), transaction.atomic():
        inner = tracer.start_span("inner")
        with opentelemetry.trace.use_span(inner):
            signals.operation_answered.send(**answered("executed", using="default"))
            signals.operation_taken_over.send(**attempted(using="default"))
    inner.end()
    outer, stated = spans()
    assert not outer.attributes
    assert (stated.attributes or {})["idempotency.outcome"] == "executed"
    assert events(stated)[0][0] == "idempotency.taken_over"
    assert events(stated)[0][1]["idempotency.attempt"] == 2


@pytest.mark.django_db(transaction=True)
def test_a_span_that_ends_before_the_commit_is_left_alone(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    with transaction.atomic(), tracer.start_as_current_span("job"):
        signals.operation_answered.send(**answered("executed", using="default"))
    assert not spans()[0].attributes
    assert caplog.text == ""


def test_a_batch_is_an_event_with_its_numbers(tracer: Tracer) -> None:
    with tracer.start_as_current_span("import"):
        signals.batch_answered.send(**COMMON, counts={"inserted": 3, "stale": 1}, duration=0.5)
    ((name, attributes),) = events(spans()[0])
    assert name == "idempotency.batch"
    assert attributes["idempotency.count.inserted"] == 3
    assert attributes["idempotency.count.stale"] == 1


def test_without_a_span_nothing_happens(tracer: Tracer) -> None:
    signals.operation_answered.send(**answered("executed"))
    signals.operation_fenced.send(**attempted())
    assert spans() == []
    assert opentelemetry.traceparent() == ""
    assert notes.take() == ()


def test_secrets_of_the_facts_are_on_no_span(tracer: Tracer) -> None:
    with tracer.start_as_current_span("POST"):
        signals.operation_answered.send(**answered("executed", key=SECRETS[0], body=SECRETS[0]))
        signals.operation_taken_over.send(**attempted())
        signals.operation_fenced.send(**attempted())
    told = spans()[0].to_json()
    assert told.count("idempotency.digest") == 3
    assert [secret for secret in SECRETS if secret in told] == []


def test_requests_leave_their_outcome_on_the_span_and_a_replay_leads_to_the_first_one(
    tracer: Tracer, alice: Any
) -> None:
    body, key = {"amount": 1, "reference": "r"}, "8e03978e-40d5-43e8-bc93-6894a57f9324"
    answers = []
    for name in ("first", "retry"):
        with tracer.start_as_current_span(name):
            answers.append(alice.post("/payments/", body, key=key))
    first, retry = spans()
    assert (first.attributes or {})["idempotency.outcome"] == "executed"
    assert (retry.attributes or {})["idempotency.outcome"] == "replayed"
    assert [link.context.span_id for link in retry.links] == [first.context.span_id]
    assert first.links == ()
    assert not [name for answer in answers for name in answer.headers if name.lower().startswith(notes.PREFIX)]

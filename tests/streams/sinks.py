"""The consumers of the tests: each topic is of its own, so that tests do not meet."""

from __future__ import annotations

from typing import Any

from django_idempotency.streams import Context, Event, Projection
from django_idempotency.streams.consumers import HandlerSink
from tests.streams.models import Handled, PositionedSum, Sum


class Refused(Exception):
    """What the handler says of a number that it does not like."""


def handle(event: Event, context: Context) -> None:
    if event.data["number"] < 0:
        raise Refused(f"negative: {event.data['number']}")
    Handled.objects.using(context.using).create(key=event.business_key, number=event.data["number"])


async def handle_later(event: Event, context: Context) -> None:
    if event.data["number"] < 0:
        raise Refused
    await Handled.objects.using(context.using).acreate(key=event.business_key, number=event.data["number"])


def handler(topic: str, group: str = "billing", function: Any = handle, **options: Any) -> HandlerSink:
    return HandlerSink(function, topic=topic, group=group, **options)


class Sums(Projection):
    """Adds up what events say."""

    model = Sum
    key = "key"

    def apply(self, event: Event, current: Sum | None) -> dict[str, Any] | None:
        if event.data is None:
            return {"total": 0}
        if event.data["number"] == 0:
            return None
        total = current.total if current else 0
        return {"total": total + event.data["number"], "last": event.data["number"]}


class PositionedSums(Projection):
    """Adds up, by a number."""

    model = PositionedSum
    key = "number"

    def apply(self, event: Event, current: PositionedSum | None) -> dict[str, Any]:
        return {"total": (current.total if current else 0) + event.data["number"]}


def projection(topic: str, kind: type[Projection] = Sums, **options: Any) -> Projection:
    sink = kind()
    sink.topic = topic
    for name, value in options.items():
        setattr(sink, name, value)
    return sink

"""Consumers: functions that handle one event at a time, in the transaction that remembers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from asgiref.sync import async_to_sync

from django_idempotency.streams.events import ID, Event, Identity
from django_idempotency.streams.sinks import Context, Sink, Start, registry

F = TypeVar("F", bound=Callable[[Event, Context], Any])


class HandlerSink(Sink):
    """Calls a function for each event. Coroutine functions are awaited one after the other, in the same transaction."""

    def __init__(self, handler: Callable[[Event, Context], Any], **options: Any) -> None:
        self.handler = handler
        for name, value in options.items():
            setattr(self, name, value)

    def handle(self, events: Sequence[Event], context: Context) -> None:
        """Call it for each."""
        if iscoroutinefunction(self.handler):
            async_to_sync(self._await)(events, context)
            return
        for event in events:
            self.handler(event, context)

    async def _await(self, events: Sequence[Event], context: Context) -> None:
        for event in events:
            await self.handler(event, context)


def consumer(
    *,
    topic: str,
    group: str,
    broker: str = "default",
    using: str | None = None,
    event_id: Identity = ID,
    start: Start = "earliest",
) -> Callable[[F], F]:
    """Have a function ``handler(event, context)`` handle the events of a topic, each once for the group.

    What it writes to the database ``using`` commits together with the inbox and the offsets; what it raises has the
    event parked. It may be a coroutine function. ``event_id`` is the header that events are known by, ``"position"``
    where producers send none, or a function that finds it in a record. ``start``: where a new group begins.
    """

    def decorate(handler: F) -> F:
        origin = f"{handler.__module__}.{handler.__qualname__} {topic} {group}"
        options = {"broker": broker, "using": using, "event_id": event_id, "start": start}
        registry.add(origin, HandlerSink(handler, topic=topic, group=group, **options))
        return handler

    return decorate

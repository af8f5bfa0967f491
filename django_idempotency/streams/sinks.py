"""Sinks: what a group does with the events of a topic. Each is found by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from django.db import router

from django_idempotency.streams.events import ID, Event, Identity
from django_idempotency.streams.models import ConsumedEvent

#: Where a group begins that has not read anything yet.
Start = Literal["earliest", "latest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """In what an event is handled: the transaction on the database ``using``, with the group's inbox and offsets.

    ``attempt`` counts from 1; it grows where a batch is tried again, and where somebody has a parked event retried.
    """

    group: str
    topic: str
    using: str
    attempt: int = 1


class Sink:
    """Handles events in a transaction that somebody else has opened.

    ``event_id``: the header that events are known by, ``position``, or a function of their record. ``using``: the
    database of effects, inbox and offsets.
    """

    topic: str = ""
    group: str = ""
    broker: str = "default"
    using: str | None = None
    event_id: Identity = ID
    start: Start = "earliest"

    @property
    def alias(self) -> str:
        """The database that has everything."""
        return self.using or router.db_for_write(ConsumedEvent)

    @property
    def name(self) -> str:
        """Topic and group, as signals tell of them."""
        return f"{self.topic}/{self.group}"

    def __str__(self) -> str:
        return self.name

    def handle(self, events: Sequence[Event], context: Context) -> None:
        """Handle events, each new to this group, in order. What it raises undoes them all."""
        raise NotImplementedError


class Registry:
    """The sinks of the project."""

    def __init__(self) -> None:
        self._sinks: list[tuple[str, Sink]] = []

    def add(self, origin: str, sink: Sink) -> None:
        """Add a sink; one from the same place in the code takes the place of the earlier one."""
        self._sinks = [(known, other) for known, other in self._sinks if known != origin]
        self._sinks.append((origin, sink))

    def all(self) -> list[Sink]:
        """Return all, in the order of their definition."""
        return [sink for _, sink in self._sinks]

    def find(self, topic: str, group: str) -> Sink | None:
        """Return the sink of a group for a topic."""
        return next((sink for sink in self.all() if (sink.topic, sink.group) == (topic, group)), None)


#: Those that the project has defined.
registry = Registry()

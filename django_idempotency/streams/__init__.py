"""Streams: events leave with the transaction that they tell of, and are handled once however often they arrive."""

from django_idempotency.streams.consumers import consumer
from django_idempotency.streams.errors import (
    BrokerUnavailable,
    EventRejected,
    EventTooLarge,
    PoisonEvent,
    UnknownTopic,
)
from django_idempotency.streams.events import Event
from django_idempotency.streams.outbox import publish, publish_many
from django_idempotency.streams.projections import Positioned, Projection
from django_idempotency.streams.sinks import Context

__all__ = [
    "BrokerUnavailable",
    "Context",
    "Event",
    "EventRejected",
    "EventTooLarge",
    "PoisonEvent",
    "Positioned",
    "Projection",
    "UnknownTopic",
    "consumer",
    "publish",
    "publish_many",
]

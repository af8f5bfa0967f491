"""What can go wrong between a transaction and a broker."""

from __future__ import annotations

from django_idempotency.exceptions import IdempotencyError


class EventTooLarge(ValueError):
    """The payload is longer than IDEMPOTENCY_MAX_EVENT."""


class BrokerUnavailable(IdempotencyError):
    """The broker does not answer; what waits for it is kept."""


class UnknownTopic(IdempotencyError):
    """The broker has no such topic."""


class PositionLost(IdempotencyError):
    """The broker no longer has the records at this position, or does not have them yet."""


class EventRejected(IdempotencyError):
    """The record cannot be read as an event."""


class PoisonEvent(IdempotencyError):
    """An event cannot be handled, and nothing behind it is to be handled before it is."""


class Behind(IdempotencyError):
    """Records were skipped: reading has to go back to what the table says."""

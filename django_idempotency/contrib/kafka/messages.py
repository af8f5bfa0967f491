"""What librdkafka says, in the words of streams."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError

from django_idempotency.streams.brokers import Record, Report
from django_idempotency.streams.errors import BrokerUnavailable, PositionLost, UnknownTopic

_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_POISON = _UNKNOWN | {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_MSG,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.POLICY_VIOLATION,
}
_LOST = frozenset({KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET})
#: Errors that librdkafka tells of while it goes on by itself.
PASSING = frozenset({KafkaError._MAX_POLL_EXCEEDED, KafkaError.REBALANCE_IN_PROGRESS})
DELIVERED = Report()


def said(error: KafkaError) -> Exception:
    """Return the error that it is for those who know no Kafka."""
    if error.code() in _UNKNOWN:
        return UnknownTopic(error.str())
    return PositionLost(error.str()) if error.code() in _LOST else BrokerUnavailable(error.str())


def reported(error: KafkaError) -> Report:
    """Return what to tell of a message that was not delivered."""
    return Report(error=f"{error.name()}: {error.str()}", is_poison=error.code() in _POISON)


def read(message: Any) -> Record:
    """Return the record of a message."""
    kind, milliseconds = message.timestamp()
    return Record(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        headers=tuple((name, value or b"") for name, value in message.headers() or ()),
        at=datetime.fromtimestamp(milliseconds / 1000, UTC) if kind and milliseconds >= 0 else None,
    )


def is_end(message: Any) -> bool:
    """Tell whether a message is none, but says that a partition ends at its offset."""
    return message.error() is not None and message.error().code() == KafkaError._PARTITION_EOF

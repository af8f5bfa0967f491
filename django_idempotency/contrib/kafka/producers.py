"""The producer: idempotent, in order, and sure of what it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from django_idempotency.contrib.kafka.messages import DELIVERED, reported
from django_idempotency.streams.brokers import Message, Producer, Report
from django_idempotency.streams.errors import UnknownTopic

PRODUCER = {
    "enable.idempotence": True,
    # That of Java and Debezium: librdkafka's own would put a key that both produce into two partitions.
    "partitioner": "murmur2_random",
    # A message that times out alone would be overtaken by the next one of its key: they are given up together.
    "message.timeout.ms": 0,
}


class KafkaProducer(Producer):
    """Awaits the reports of each batch; what is not acknowledged in time is given up, and sent again later.

    ``make`` returns a client; ``ask`` raises UnknownTopic; ``patience``: seconds without any acknowledgement.
    """

    def __init__(self, make: Callable[[], Any], *, ask: Callable[[str], Any], patience: float) -> None:
        self._make, self._ask, self._patience = make, ask, patience
        self._client: Any = None
        self._unknown: dict[str, str] = {}

    def send(self, messages: Sequence[Message]) -> list[Report]:
        """Send all, and wait."""
        problems = {topic: self._problem(topic) for topic in {message.topic for message in messages}}
        self._client = self._client or self._make()
        reports: list[Report | None] = [None] * len(messages)
        for place, message in enumerate(messages):
            if problem := problems[message.topic]:
                reports[place] = Report(error=problem, is_poison=True)
            else:
                self._produce(message, partial(_keep, reports, place), reports, place)
        self._await(reports)
        done = [report or Report(error="The broker has not acknowledged it.") for report in reports]
        if any(report.error and not report.is_poison for report in done):
            self.close()
        return done

    def _problem(self, topic: str) -> str:
        """Return what is wrong with a topic; asked once for each, since librdkafka itself waits half a minute."""
        if topic not in self._unknown:
            try:
                self._ask(topic)
            except UnknownTopic as error:
                return str(error)
            self._unknown[topic] = ""
        return self._unknown[topic]

    def _produce(self, message: Message, on_delivery: Any, reports: list[Report | None], place: int) -> None:
        while True:
            try:
                self._client.produce(
                    message.topic,
                    message.value,
                    message.key,
                    headers=list(message.headers),
                    on_delivery=on_delivery,
                )
            except BufferError:
                self._client.poll(0.1)
            except KafkaException as error:
                reports[place] = reported(error.args[0])
                return
            else:
                return

    def _await(self, reports: list[Report | None]) -> None:
        deadline, left = time.monotonic() + self._patience, len(self._client)
        while self._client.flush(0.2):
            if len(self._client) < left:
                deadline, left = time.monotonic() + self._patience, len(self._client)
            elif time.monotonic() > deadline:
                self._client.purge()
                self._client.flush(1)
                return

    def close(self) -> None:
        """Give up what is on its way, and ask anew about topics."""
        client, self._client = self._client, None
        self._unknown.clear()
        if client is not None:
            client.purge()
            client.flush(1)


def _keep(reports: list[Report | None], place: int, error: KafkaError | None, message: Any) -> None:
    reports[place] = DELIVERED if error is None else reported(error)

"""The relay: takes what waits in the outbox to the broker, in the order of each business key."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from random import uniform
from threading import Event as Flag

from django.db import InterfaceError, OperationalError, connections, models, router, transaction

from django_idempotency.signals import batch_answered
from django_idempotency.statements import is_enclosed
from django_idempotency.streams import lanes
from django_idempotency.streams.brokers import Message, Producer, Report, get_broker
from django_idempotency.streams.errors import BrokerUnavailable
from django_idempotency.streams.events import ID, TIME
from django_idempotency.streams.lanes import Waiting
from django_idempotency.streams.models import OutboxEvent
from django_idempotency.streams.outbox import LANES

logger = logging.getLogger("django_idempotency.streams")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LONGEST_ERROR = 500
Status = OutboxEvent.Status


@dataclass(slots=True, kw_only=True)
class Relayed:
    """How many events are published and parked; ``left``: tried, and still waiting."""

    published: int = 0
    parked: int = 0
    left: int = 0

    def add(self, other: Relayed) -> None:
        """Count what another has counted."""
        self.published += other.published
        self.parked += other.parked
        self.left += other.left


class Relay:
    """Publishes batches. Any number may run on PostgreSQL, one on SQLite.

    ``batch``: events at a time. ``topics``: only these. ``poll``: seconds to wait where nothing waits.
    """

    def __init__(
        self,
        broker: str = "default",
        *,
        using: str | None = None,
        batch: int = 500,
        topics: Sequence[str] = (),
        poll: float = 0.2,
    ) -> None:
        self.broker, self.batch, self.topics, self.poll = broker, batch, tuple(topics), poll
        self.alias = using or router.db_for_write(OutboxEvent)
        self.total = Relayed()
        self._producer: Producer | None = None
        self._is_ready, self._share = False, lanes.SHARE

    def run(self, stop: Flag, *, on_batch: Callable[[Relayed], None] = lambda done: None) -> Relayed:
        """Publish until ``stop`` is set, whatever happens to broker and database; return what was done."""
        pause = 0.0
        while not stop.wait(pause):
            try:
                done = self.run_once()
            except (BrokerUnavailable, OperationalError, InterfaceError) as error:
                pause = _longer(pause)
                logger.warning("The relay waits %.1f s, nothing is lost: %s", pause, error)
                self._let_go()
                continue
            on_batch(done)
            pause = self._pause(done, pause)
        self.close()
        return self.total

    def run_once(self) -> Relayed:
        """Publish one batch; return what came of it. Raises BrokerUnavailable if none of it could be delivered."""
        started = time.monotonic()
        with self._claimed() as events:
            if not events:
                return Relayed()
            reports = self._send(events)
            done, topics = self._settle(events, reports)
        self._tell(topics, time.monotonic() - started)
        self.total.add(done)
        if done.left and not (done.published or done.parked):
            raise BrokerUnavailable(next(report.error for report in reports if report.error))
        return done

    def drain(self) -> Relayed:
        """Publish until nothing waits that nobody else has taken. Raises BrokerUnavailable."""
        while (done := self.run_once()).published or done.parked:
            continue
        return self.total

    def close(self) -> None:
        """Give up what is on its way, which is still in the outbox."""
        producer, self._producer = self._producer, None
        if producer:
            producer.close()

    @contextmanager
    def _claimed(self) -> Iterator[list[Waiting]]:
        """Open a transaction with events that nobody else publishes meanwhile; without one where nobody else may be."""
        if connections[self.alias].vendor != "postgresql":
            # A transaction here would keep everybody from writing while the broker is waited for.
            yield lanes.oldest(self.alias, self.batch, self.topics)
            return
        if not self._is_ready:
            lanes.ensure(self.alias)
            self._is_ready = True
        with transaction.atomic(using=self.alias):
            events = lanes.take(self.alias, self.batch, self.topics, share=self._share)
            # Where there is little to do, there is nothing to leave to others.
            self._share = lanes.SHARE if len(events) >= self.batch else LANES
            yield events

    def _send(self, events: Sequence[Waiting]) -> list[Report]:
        self._producer = self._producer or get_broker(self.broker).producer()
        return self._producer.send([_message(event) for event in events])

    def _settle(self, events: Sequence[Waiting], reports: Sequence[Report]) -> tuple[Relayed, dict[str, Counter[str]]]:
        """Write down what the broker says."""
        done, topics = Relayed(), {event.topic: Counter[str]() for event in events}
        by_report: dict[Report, list[Waiting]] = {}
        for event, report in zip(events, reports, strict=True):
            by_report.setdefault(report, []).append(event)
        with transaction.atomic(using=self.alias, savepoint=False):
            for report, of_it in by_report.items():
                self._write(report, [event.pk for event in of_it])
                done.add(_count(report, len(of_it)))
                if outcome := _outcome(report):
                    for event in of_it:
                        topics[event.topic][outcome] += 1
        return done, topics

    def _write(self, report: Report, keys: list[int]) -> None:
        if not report.error:
            lanes.mark_published(self.alias, keys)
            return
        rows = OutboxEvent.objects.using(self.alias).filter(pk__in=keys)
        status = Status.PARKED if report.is_poison else Status.PENDING
        rows.update(status=status, attempts=models.F("attempts") + 1, error=report.error[:_LONGEST_ERROR])
        if report.is_poison:
            logger.error("%d events are parked in the outbox: %s", len(keys), report.error)

    def _tell(self, topics: dict[str, Counter[str]], duration: float) -> None:
        """Send what is published and parked; the rows are the audit of it."""
        for topic, counts in topics.items():
            batch_answered.send(
                sender=Relay, using=None, layer="streams", operation=topic, counts=dict(counts), duration=duration
            )

    def _pause(self, done: Relayed, pause: float) -> float:
        if done.left:
            return _longer(pause)
        return 0 if done.published or done.parked else self.poll

    def _let_go(self) -> None:
        """Begin anew with the broker, and with a database that is gone."""
        self.close()
        if not is_enclosed(connections[self.alias]):
            connections[self.alias].close_if_unusable_or_obsolete()


def _longer(pause: float) -> float:
    return min(max(_SHORTEST_PAUSE, pause * 2), _LONGEST_PAUSE) * uniform(0.8, 1.0)  # noqa: S311 - out of step


def _message(event: Waiting) -> Message:
    return Message(
        topic=event.topic,
        key=event.business_key.encode(),
        value=event.payload,
        headers=((ID, event.event_id.encode()), (TIME, event.created_at.encode()), *_headers(event.headers)),
    )


@lru_cache
def _headers(kept: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a row: most have the same."""
    return tuple((name, value.encode()) for name, value in json.loads(kept).items())


def _count(report: Report, count: int) -> Relayed:
    if not report.error:
        return Relayed(published=count)
    return Relayed(parked=count) if report.is_poison else Relayed(left=count)


def _outcome(report: Report) -> str:
    if not report.error:
        return "executed"
    return "rejected" if report.is_poison else ""

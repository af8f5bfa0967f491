"""Producers that repeat themselves, relays and consumers that are killed, rewinds and purges: the view stays right.

``python -m pytest -m campaign tests/campaigns/test_streams.py`` publishes 20 000 events on the embedded broker and
PostgreSQL, sends every fifth one again, kills 20 of three rival consumers and 10 of two relays at moments of chance,
rewinds to the start, purges the inbox and rewinds again, and forgets the inbox altogether and rewinds once more. The
default run does so with 500 events and three kills. IDEMPOTENCY_SEED is the seed of all chance.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event as Flag

import pytest
from django.db.models import Max
from django.test import override_settings
from django.utils import timezone

from django_idempotency.models import ConsumedEvent, ConsumerOffset, OutboxEvent, RetentionFloor
from django_idempotency.streams.brokers import get_broker
from tests.campaigns.fleets import Fleet, environment, run_command
from tests.campaigns.harness import Report, eventually
from tests.campaigns.streaming.books import Books, Echo
from tests.campaigns.streaming.consumers import GROUP, TOPIC
from tests.kafka_servers import Kafka, started_kafka, true_ends

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

PARTITIONS = 4
CONSUME = ["idempotency_consume", TOPIC, f"--group={GROUP}", "--max-batch=100"]
COMMANDS = {"relay": ["idempotency_relay", "--batch=50"], "consumer": CONSUME}
SMALL = pytest.param(500, {"consumer": 2, "relay": 1})
FULL = pytest.param(20_000, {"consumer": 20, "relay": 10}, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)])


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    with started_kafka() as kafka:
        yield kafka


@pytest.fixture
def _topic(kafka: Kafka) -> None:
    with override_settings(IDEMPOTENCY_BROKERS=kafka.brokers):
        assert len(get_broker().bounds(TOPIC)) == PARTITIONS  # asked for, it is there


def is_consumed(ends: dict[int, int]) -> bool:
    """Tell whether the group has handled every partition to its end."""
    rows = ConsumerOffset.objects.filter(group=GROUP, topic=TOPIC)
    return dict(rows.values_list("partition", "next_offset")) == ends


@dataclass(frozen=True, kw_only=True)
class Mayhem:
    """Publishes event after event, and kills those who are at work on them."""

    books: Books
    fleet: Fleet
    chance: random.Random

    def run(self, events: int, kills: dict[str, int]) -> None:
        """Publish so many events, with so many kills among them."""
        victims = [kind for kind, count in kills.items() for _ in range(count)]
        self.chance.shuffle(victims)
        for number, kind in enumerate(victims):
            before, share = self._done(kind), events // (len(victims) + 1)
            self.books.publish(share)
            wanted = before + self.chance.randint(1, share // 2)
            eventually(lambda kind=kind, wanted=wanted: self._done(kind) >= wanted, f"work before kill {number}")
            time.sleep(self.chance.random() * 0.02)  # where in its batch it dies is up to chance
            self.fleet.kill_one(kind)
        self.books.publish(events - self.books.published)

    def _done(self, kind: str) -> int:
        """Return how many events this kind has got through."""
        if kind == "relay":
            return OutboxEvent.objects.published().count()
        return ConsumedEvent.objects.filter(group=GROUP).count()


def replay(kafka: Kafka, **variables: str) -> dict[str, int]:
    """Read everything again from the start, in a process of its own; return what it has counted."""
    env = environment(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers, **variables)
    said = run_command(*CONSUME, "--from=earliest", "--until-caught-up", "--json", env=env)
    counts: dict[str, int] = json.loads(said.splitlines()[-1])["counts"]
    return {outcome: count for outcome, count in counts.items() if count}


def purge_inbox() -> int:
    """Let the inbox forget all there is, as a purge does whose retention is over for it; return how many it forgot."""
    from django_idempotency import retention

    newest = ConsumedEvent.objects.aggregate(newest=Max("event_at"))["newest"]
    ttl = (timezone.now() - newest).total_seconds() - 0.001
    with override_settings(IDEMPOTENCY_INBOX_TTL=max(ttl, 0)):
        inbox = next(one for one in retention.registered() if one.name == "inbox")
        return sum(inbox.purge("default", batch_size=1000))


@pytest.mark.parametrize(("events", "kills"), [SMALL, FULL])
@pytest.mark.usefixtures("_topic")
def test_the_view_is_the_sum_computed_apart(kafka: Kafka, events: int, kills: dict[str, int]) -> None:
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    chance = random.Random(seed)
    books, echo = Books(accounts=max(events // 50, 5), seed=seed), Echo(kafka, share=0.2, seed=seed)
    stop = Flag()
    env = environment(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers)
    fleet = Fleet(commands=COMMANDS, sizes={"relay": 2, "consumer": 3}, env=env, chance=chance)
    with Report(campaign=f"streams, {events} events", seed=seed) as report:
        with fleet, ThreadPoolExecutor(1) as pool:
            echoing = pool.submit(echo.run, stop)
            try:
                Mayhem(books=books, fleet=fleet, chance=chance).run(events, kills)
                eventually(lambda: echo.seen == events, "all events in the topic")
            finally:
                stop.set()
            echoing.result()
            ends = true_ends(kafka, TOPIC)
            eventually(lambda: is_consumed(ends), "the end of every partition")
        judge(report, books, "after the kills")
        counts = {"after the rewind": replay(kafka)}
        judge(report, books, "after the rewind")
        report.expect(is_consumed(ends), "the rewind has moved what is handled")
        forgotten = purge_inbox()
        counts["after purge and rewind"] = replay(kafka)
        judge(report, books, "after purge and rewind")
        if events > 1000:
            RetentionFloor.objects.all().delete()
            ConsumedEvent.objects.all().delete()
            counts["after all was forgotten"] = replay(kafka)
            judge(report, books, "after all was forgotten")
        records = sum(ends.values())
        report.counts = {
            "events": books.published,
            "rolled back": books.rolled_back,
            "records": records,
            "sent again by the producer": echo.sent,
            "sent again by relays": records - books.published - echo.sent,
            "kills": dict(fleet.kills),
            "forgotten by the purge": forgotten,
            "replays": counts,
        }
        for when, counted in counts.items():
            report.expect(counted.get("replayed", 0) > 0.9 * records, f"{when}: read again were {counted} of {records}")
            report.expect(not counted.get("executed"), f"{when}: {counted} ran again")
        report.expect(echo.seen == events, f"{echo.seen} events in the topic, {events} published")
        report.expect(not fleet.deserted, f"ended by themselves: {fleet.deserted}")
    print(report.counts, f"{report.seconds} s")
    assert report.violations == []
    assert fleet.kills == kills
    assert books.published == events
    assert echo.sent > 0.1 * events
    assert forgotten > 0


def judge(report: Report, books: Books, when: str) -> None:
    """Compare the view with the books."""
    differences = books.differences()
    report.expect(not differences, f"{when}: {len(differences)} accounts are wrong: {differences[:3]}")
    applied = ConsumedEvent.objects.filter(group=GROUP, outcome="failed").count()
    report.expect(not applied, f"{when}: {applied} events failed")

"""Who publishes, who publishes again, and the sums computed apart."""

from __future__ import annotations

import random
from collections import Counter
from threading import Event as Flag
from typing import Any

from django.db import transaction

from django_idempotency.streams import publish
from tests.campaigns.streaming.consumers import TOPIC
from tests.campaigns.streaming.models import RunningTotal
from tests.kafka_servers import Kafka, Tail

ROLLED_BACK = 0.05
_LARGEST = 20


class Books:
    """Moves accounts and publishes each move in its transaction; keeps what committed, apart from all events."""

    def __init__(self, accounts: int, seed: int) -> None:
        self._chance = random.Random(f"books {seed}")
        self._accounts = [f"account-{number}" for number in range(accounts)]
        self.totals: Counter[str] = Counter()
        self.moves: Counter[str] = Counter()
        self.rolled_back = 0

    @property
    def published(self) -> int:
        """How many events were published by transactions that committed."""
        return sum(self.moves.values())

    def publish(self, count: int) -> None:
        """Publish so many events, in transactions of any size."""
        goal = self.published + count
        while (left := goal - self.published) > 0:
            self._transact(min(self._chance.randint(1, _LARGEST), left))

    def _transact(self, size: int) -> None:
        is_rolled_back = self._chance.random() < ROLLED_BACK
        moves: list[tuple[str, int]] = []
        with transaction.atomic():
            counted = Counter(self.moves)
            for account in self._chance.choices(self._accounts, k=size):
                amount = self._chance.randint(-500, 1000)
                counted[account] += 1
                publish(TOPIC, account, {"amount": amount, "sequence": counted[account]})
                moves.append((account, amount))
            transaction.set_rollback(is_rolled_back)
        if is_rolled_back:
            self.rolled_back += size
            return
        for account, amount in moves:
            self.totals[account] += amount
            self.moves[account] += 1

    def differences(self) -> list[str]:
        """Return where the view is not what it should be."""
        rows: dict[str, Any] = {row.account: row for row in RunningTotal.objects.all()}
        wrong = [
            f"{account}: total {rows[account].total}, not {self.totals[account]}; events {rows[account].events}, "
            f"not {self.moves[account]}; {rows[account].disorders} out of order"
            if account in rows
            else f"{account} is missing"
            for account in sorted(self.moves)
            if account not in rows or not self._is_right(account, rows[account])
        ]
        return wrong + [f"{account} is too much" for account in sorted(set(rows) - set(self.moves))]

    def _is_right(self, account: str, row: Any) -> bool:
        found = (row.total, row.events, row.last_sequence, row.disorders)
        return found == (self.totals[account], self.moves[account], self.moves[account], 0)


class Echo:
    """A producer that sends some events again, bytes for bytes, as one that does not know what it has sent."""

    def __init__(self, kafka: Kafka, share: float, seed: int) -> None:
        self._kafka, self._share, self._chance = kafka, share, random.Random(f"echo {seed}")
        self._seen: set[bytes] = set()
        self.sent = 0

    @property
    def seen(self) -> int:
        """How many different events the topic has had."""
        return len(self._seen)

    def run(self, stop: Flag) -> None:
        """Go on until it is to stop."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self._kafka.bootstrap_servers, "partitioner": "murmur2_random"})
        tail = Tail(self._kafka, TOPIC)
        try:
            while not stop.is_set():
                for message in filter(self._is_chosen, tail.read()):
                    producer.produce(TOPIC, message.value(), message.key(), headers=message.headers())
                    self.sent += 1
                assert producer.flush(30) == 0
        finally:
            tail.close()

    def _is_chosen(self, message: Any) -> bool:
        event_id = dict(message.headers())["event-id"]
        is_known = event_id in self._seen
        self._seen.add(event_id)
        return not is_known and self._chance.random() < self._share

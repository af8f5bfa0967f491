"""Who publishes, who publishes again, and the sums computed apart."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from threading import Event as Flag
from typing import Any

from django.db import connections, transaction

from django_idempotency.streams import publish
from django_idempotency.streams.brokers import Broker, Message
from tests.campaigns.streaming.consumers import TOPIC
from tests.campaigns.streaming.models import RunningTotal

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

    def publish(self, count: int, seconds: float) -> None:
        """Publish so many events, in transactions of any size, over about so many seconds."""
        started, before = time.monotonic(), self.published
        try:
            while (left := count - self.published + before) > 0:
                self._transact(min(self._chance.randint(1, _LARGEST), left))
                due = started + seconds * (self.published - before) / count
                time.sleep(max(due - time.monotonic(), 0))
        finally:
            connections.close_all()

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

    def __init__(self, broker: Broker, share: float, seed: int) -> None:
        self._broker, self._share, self._chance = broker, share, random.Random(f"echo {seed}")
        self._read_to: dict[int, int] = {}
        self._seen: set[bytes] = set()
        self._first: dict[int, Message] = {}
        self.sent = 0

    @property
    def seen(self) -> int:
        """How many different events the topic has had."""
        return len(self._seen)

    def run(self, is_over: Callable[[], bool], stop: Flag) -> None:
        """Go on until it is over."""
        self._producer = self._broker.producer()
        try:
            while not stop.wait(0.05):
                is_last = is_over()
                self._send(self._again())
                if is_last:
                    self._send_one_of_each_partition()
                    return
        finally:
            self._producer.close()
            connections.close_all()

    def _send_one_of_each_partition(self) -> None:
        """Send alone: the embedded broker tells a wrong end where the last who wrote to a partition were several."""
        for message in list(self._first.values()):
            self._send([message])
        self._send(self._again())

    def _send(self, messages: list[Message]) -> None:
        if messages:
            assert not [report for report in self._producer.send(messages) if report.error]
            self.sent += len(messages)

    def _again(self) -> list[Message]:
        messages = []
        for record in self._broker.read(TOPIC, self._read_to):
            self._read_to[record.partition] = record.offset + 1
            event_id = dict(record.headers)["event-id"]
            if event_id not in self._seen and self._chance.random() < self._share:
                messages.append(Message(topic=TOPIC, key=record.key or b"", value=record.value, headers=record.headers))
            self._seen.add(event_id)
        return messages

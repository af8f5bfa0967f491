"""Clients that pay, repeat, and remember what they were told."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median, quantiles
from threading import Event, Lock
from typing import Any

from tests.callers import new_key
from tests.campaigns.harness import TIMEOUT, Answer, Report, Server

DUPLICATES = 3


class Load:
    """Sends payments with fresh keys, each followed by repetitions, until it is to end. A violation is noted at once.

    ``acknowledged`` are the bodies of what was answered with 201, by key.
    """

    def __init__(self, server: Server, report: Report, *, clients: int, seed: int) -> None:
        self._server, self._report, self._clients, self._seed = server, report, clients, seed
        self._end, self._lock = Event(), Lock()
        self.acknowledged: dict[str, bytes] = {}
        self._kinds: Counter[str] = Counter()
        self._seconds: list[float] = []

    @property
    def answered(self) -> int:
        """How many requests have been answered."""
        return len(self._seconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send from all clients while the block runs."""
        with ThreadPoolExecutor(self._clients) as pool, ThreadPoolExecutor(self._clients * DUPLICATES) as twins:
            sent = [pool.submit(self._client, random.Random(f"{self._seed} {n}"), twins) for n in range(self._clients)]
            try:
                yield
            finally:
                self._end.set()
                for client in sent:
                    client.result()

    def _client(self, chance: random.Random, twins: ThreadPoolExecutor) -> None:
        known: list[str] = []
        while not self._end.is_set():
            key = new_key()
            if chance.random() < 0.2:
                list(twins.map(self._send, [key] * DUPLICATES))
            self._until_acknowledged(key)
            known.append(key)
            self._send(chance.choice(known))

    def _until_acknowledged(self, key: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while self._send(key).status == 409:
            self._report.expect(time.monotonic() < deadline, f"I6 {key}: in progress for ever")
            time.sleep(0.02)

    def _send(self, key: str) -> Answer:
        started = time.monotonic()
        answer = self._server.post("/payments/", {"amount": 3, "reference": key}, key=key)
        with self._lock:
            self._seconds.append(time.monotonic() - started)
            self._note(key, answer)
        return answer

    def _note(self, key: str, answer: Answer) -> None:
        self._kinds[f"{answer.status} replayed" if answer.is_replayed else str(answer.status)] += 1
        self._report.expect(answer.status in (201, 409), f"I10 {key}: {answer.status} {answer.body!r}")
        if answer.status == 201:
            known = self.acknowledged.setdefault(key, answer.body)
            self._report.expect(known == answer.body, f"I2 {key}: other bytes")

    def replay_all(self, *, sample: int) -> None:
        """Repeat a number of the keys once more; each must be a replay."""
        for key in random.Random(self._seed).sample(list(self.acknowledged), min(sample, len(self.acknowledged))):
            self._report.expect(self._send(key).is_replayed, f"I2 {key}: not replayed")

    def counts(self) -> dict[str, Any]:
        """Return what a report tells of it."""
        return {
            "keys": len(self.acknowledged),
            "answers": dict(self._kinds),
            "milliseconds": {
                "median": round(1000 * median(self._seconds), 1),
                "p95": round(1000 * quantiles(self._seconds, n=100)[94], 1),
                "slowest": round(1000 * max(self._seconds), 1),
            },
        }

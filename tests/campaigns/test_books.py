"""Requests of every kind while workers are killed and the books are closed: the sums are what clients have counted.

``python -m pytest -m campaign tests/campaigns/test_books.py`` sends 100 000 requests to each store and kills 300
workers meanwhile; the default run is a smaller one. IDEMPOTENCY_SEED and IDEMPOTENCY_REQUESTS override the order and
the number.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from threading import Event, Lock
from typing import Any

import pytest
from django.db.models import Count, Sum

from django_idempotency.audit.models import AuditEvent
from django_idempotency.audit.rollups import Rollup
from django_idempotency.bookkeeping import close_books
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.failpoints import HEADER, STEPS
from tests.campaigns.harness import ROOT, TIMEOUT, Answer, Report, Server, database_url
from tests.campaigns.redis_faults import patiently_cached
from tests.campaigns.urls_books import BREAKS
from tests.models import Payment
from tests.redis_servers import started_url

CLIENTS = 6
KINDS = {"fresh": 30, "replay": 35, "mismatch": 8, "no key": 5, "bad key": 4, "bad body": 4, "broken": 6, "twins": 8}
_OUTCOMES = {201: "executed", 400: "rejected", 409: "in_progress", 422: "mismatch", 500: "failed"}


class Clients:
    """Send requests of every kind, and count what each was told. A worker serves one request at a time, so that a
    kill breaks off no other one.
    """

    def __init__(self, server: Server, report: Report, *, kills: int, requests: int) -> None:
        self._server, self._report, self._lock = server, report, Lock()
        self.told: Counter[str] = Counter()
        self.sent = 0
        self._kills, self._requests = Counter[str](), requests
        self._every = requests // max(kills, 1)

    def run(self, seed: int) -> None:
        """Send from all clients until as many requests are answered as was asked for."""
        with ThreadPoolExecutor(CLIENTS) as pool, ThreadPoolExecutor(3 * CLIENTS) as twins:
            for sent in [pool.submit(self._client, random.Random(f"{seed} {n}"), twins) for n in range(CLIENTS)]:
                sent.result()

    def _client(self, chance: random.Random, twins: ThreadPoolExecutor) -> None:
        known: list[str] = []
        while self.sent < self._requests:
            kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
            if self.sent // self._every > sum(self._kills.values()):
                known.append(self._killed(chance.choice(STEPS)))
            elif kind in ("replay", "mismatch") and known:
                self._pay(chance.choice(known), amount=3 if kind == "replay" else 4)
            elif kind == "twins":
                key = new_key()
                answers = list(twins.map(self._pay, [key] * 3))
                known += [key] if any(answer.status == 201 for answer in answers) else []
            elif kind == "no key":
                self._pay("")
            elif kind == "bad key":
                self._pay("no such key")
            elif kind == "bad body":
                self._pay(new_key(), amount="much")
            elif kind == "broken":
                self._pay(new_key(), amount=BREAKS)
            else:
                key = new_key()
                known += [key] if self._pay(key).status == 201 else []

    def _pay(self, key: str, amount: Any = 3, headers: dict[str, str] | None = None) -> Answer:
        body = {"amount": amount, "reference": key[:64]}
        answer = self._server.post("/payments/", body, key=key, headers=headers)
        with self._lock:
            self.sent += 1
            self.told["replayed" if answer.is_replayed else _OUTCOMES[answer.status]] += 1
        return answer

    def _killed(self, step: str) -> str:
        """Have a worker killed, and repeat the request until it is answered; what was cut off is found out by that."""
        key, answer = new_key(), None
        with self._lock:
            self._kills[step] += 1
        with suppress(OSError, HTTPException):
            answer = self._pay(key, headers={HEADER: step})
        deadline = time.monotonic() + TIMEOUT
        while (retry := self._pay(key)).status == 409:
            assert time.monotonic() < deadline, f"I6 {step}: in progress for ever"
        self._report.expect(retry.status == 201, f"{step}: {retry.status}")
        if answer is None and retry.is_replayed:
            with self._lock:
                self.told["executed"] += 1
        return key

    def counts(self) -> dict[str, Any]:
        """Return what a report tells of them."""
        return {"requests": self.sent, "told": dict(self.told), "kills": dict(self._kills)}


@contextmanager
def books_closed(environment: dict[str, str], seed: int) -> Iterator[Counter[str]]:
    """Purge again and again while the block runs, and kill every other purge at some moment."""
    ended, purges, chance = Event(), Counter[str](), random.Random(seed)
    command = [sys.executable, "-m", "tests.campaigns.close_books"]

    def close() -> None:
        while not ended.is_set():
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            if chance.random() < 0.5:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(chance.uniform(0.5, 3))
                process.send_signal(signal.SIGKILL)
            purges["done" if process.wait(TIMEOUT) == 0 else "killed"] += 1

    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(close)
        try:
            yield purges
        finally:
            ended.set()
            closing.result()


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("requests", "kills"),
    [(240, 3), pytest.param(100_000, 300, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)])],
)
@pytest.mark.parametrize("store", ["database", "redis"])
def test_i8_sums_are_what_clients_have_counted(alice: Caller, store: str, requests: int, kills: int) -> None:
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    requests = int(os.environ.get("IDEMPOTENCY_REQUESTS", requests))
    environment = {"CAMPAIGN_URLS": "tests.campaigns.urls_books", "CAMPAIGN_WORKERS": "sync"}
    with Report(campaign=f"books {store}", seed=seed) as report, ExitStack() as stack:
        if store == "redis":
            stack.enter_context(patiently_cached())
            environment |= {"CAMPAIGN_REDIS": started_url().replace("/0", "/1"), "CAMPAIGN_TIMEOUT": str(TIMEOUT)}
        process = {**os.environ, **environment, "DATABASE_URL": database_url({})}
        app = "tests.campaigns.redis_wsgi:application"
        server = stack.enter_context(
            Server(token=alice.token.key, workers=4, threads=1, app=app, environment=environment)
        )
        clients = Clients(server, report, kills=kills, requests=requests)
        clients.told["rejected"] += 1  # that the server is up was told by a refusal
        with books_closed(process, seed) as purges:
            clients.run(seed)
        close_books("default")
        compare(report, clients.told)
        report.counts = {**clients.counts(), "purges": dict(purges)}
    assert not report.violations, report.counts


def compare(report: Report, told: Counter[str]) -> None:
    """Compare the sums with what clients were told, and the rows with both."""
    sums = {row["outcome"]: row["total"] for row in Rollup.objects.values("outcome").annotate(total=Sum("count"))}
    report.expect(sums == dict(told), f"I8: sums {sums}, told {dict(told)}")
    answers = AuditEvent.objects.filter(event__in=[*_OUTCOMES.values(), "replayed"])
    events = {row["event"]: row["total"] for row in answers.values("event").annotate(total=Sum("count"))}
    events["executed"] = events.get("executed", 0) + Record.objects.filter(status="completed").count()
    report.expect(events == dict(told), f"I8: events {events}, told {dict(told)}")
    doubled = Payment.objects.values("reference").annotate(rows=Count("id")).filter(rows__gt=1)
    report.expect(not doubled, f"I1: several payments of {list(doubled)}")
    report.expect(Payment.objects.count() == told["executed"], "I3: not one payment an execution")

"""SIGKILL of the worker at every named step of a request.

``python -m pytest -m campaign tests/campaigns/test_kill.py`` kills 50 workers at each step, on PostgreSQL or, with
``DATABASE_URL=sqlite``, on SQLite; the default run kills two. IDEMPOTENCY_KILLS and IDEMPOTENCY_SEED override the
number and the order.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPException
from statistics import median
from typing import Any

import pytest
from django.db import connection

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.failpoints import HEADER, STEPS, STEPS_AFTER_THE_COMMIT
from tests.campaigns.harness import KEPT, Answer, Report, Server, eventually
from tests.campaigns.sessions import advisory_locks
from tests.models import Payment

AT_ONCE = 2.0


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.campaign)])
def test_a7_84_a_kill_at_any_step_leaves_both_effect_and_record_or_neither(alice: Caller, kills: int) -> None:
    kills = int(os.environ.get("IDEMPOTENCY_KILLS", kills))
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    steps = [step for step in STEPS for _ in range(kills)]
    random.Random(seed).shuffle(steps)
    delays: list[float] = []
    refused: Counter[str] = Counter()
    with Report(campaign="kill", seed=seed) as report, Server(token=alice.token.key, environment=KEPT) as server:
        for step in steps:
            kill_and_retry(report, server, step, delays, refused)
        report.expect(max(delays) < AT_ONCE, f"I6: a first retry took {max(delays):.1f} s")
        rows = Payment.objects.count(), Record.objects.count()
        report.expect(rows == (len(steps), len(steps)), f"I1: {rows} payments and records of {len(steps)} keys")
        report.counts = {
            "kills": dict(Counter(steps)),
            "first retries refused before the database had noticed": dict(refused),
            "first retry, seconds": {"median": round(median(delays), 4), "slowest": round(max(delays), 4)},
        }
    assert not report.violations


def kill_and_retry(report: Report, server: Server, step: str, delays: list[float], refused: Counter[str]) -> None:
    """Kill one worker, retry at once, and compare what the client was told with what the database holds."""
    key = new_key()
    body = {"amount": 3, "reference": key}
    workers = server.worker_ids()
    answers = []
    with suppress(OSError, HTTPException):
        answers.append(server.post("/payments/", body, key=key, headers={HEADER: step}))
        eventually(lambda: workers - server.worker_ids(), "the kill that the client could not notice")
    with server.connected() as client:
        started = time.monotonic()
        first = server.post_over(client, "/payments/", body, key=key)
        if first.status == 409 and connection.vendor == "postgresql":
            refused[step] += 1
            first = retry_once_the_database_has_noticed(server, body, key)
        delays.append(time.monotonic() - started)
    answers += [first, server.post("/payments/", body, key=key)]
    eventually(lambda: len(server.worker_ids()) == server.workers and server.worker_ids() != workers, "a new worker")
    check(report, step, key, answers)


def retry_once_the_database_has_noticed(server: Server, body: Any, key: str) -> Answer:
    """Retry after a refusal, which is right only until the database has ended the dead worker's session."""
    eventually(lambda: advisory_locks() == 0, "the end of the dead worker's session")
    return server.post("/payments/", body, key=key)


def check(report: Report, step: str, key: str, answers: list[Answer]) -> None:
    *_, first, second = answers
    report.expect(first.status == 201, f"I6 {step}: the first retry got {first.status}")
    report.expect(first.is_replayed == (step in STEPS_AFTER_THE_COMMIT), f"I3 {step}: replayed {first.is_replayed}")
    report.expect(second.is_replayed, f"I2 {step}: not replayed")
    report.expect(len({answer.body for answer in answers}) == 1, f"I2 {step}: other bytes replayed")
    report.expect(len(answers) == 2 or step == "after response", f"{step}: answered in spite of the kill")
    report.expect(Payment.objects.filter(reference=key).count() == 1, f"I1 {step}: not one payment")
    report.expect(Record.objects.filter(key=key).count() == 1, f"I3 {step}: not one record")

"""SIGKILL of the worker at every named step of a payout under a lease; the bank's own ledger is the judge.

``python -m pytest -m campaign tests/campaigns/test_payouts.py`` kills 50 workers at each step of each of three views,
on PostgreSQL or, with ``DATABASE_URL=sqlite``, on SQLite; the default run kills one. IDEMPOTENCY_KILLS and
IDEMPOTENCY_SEED override the number and the order.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_idempotency.conf import settings
from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.records import Claim, Operation
from django_idempotency.http.operations import user_scope
from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.failpoints import HEADER
from tests.campaigns.harness import TIMEOUT, Answer, Bank, Report, Server, eventually
from tests.campaigns.lease_failpoints import AFTER_THE_COMMIT, STEPS
from tests.campaigns.test_zombies import two_servers
from tests.campaigns.views_leases import LEASE
from tests.models import Payment

SOON = LEASE.total_seconds() + 1
PAUSE = 0.03
PATHS = ("/payouts/", "/careful-payouts/", "/keyless-payouts/")
FREE_AT_ONCE = ("before reserve",)
BROKEN_OFF = ("after begin", "before call", "after call", "before result")  # while the call was under way
REPEATED = ("after call", "before result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """A worker killed at a step, and what became of the request afterwards."""

    path: str
    step: str
    key: str
    answers: list[Answer]
    seconds: float

    @property
    def is_unknown(self) -> bool:
        """Whether the operation must not be run again by itself."""
        if self.step in (*FREE_AT_ONCE, *AFTER_THE_COMMIT):
            return False
        return self.path == "/careful-payouts/" or (self.path == "/keyless-payouts/" and self.step in BROKEN_OFF)

    @property
    def calls(self) -> int:
        """How often the bank must have been called."""
        if self.is_unknown:
            return int(STEPS.index(self.step) >= STEPS.index("after call"))
        return 2 if self.step in REPEATED else 1


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)])])
def test_a_payout_is_paid_once_whichever_step_its_worker_dies_at(alice: Caller, tmp_path: Path, kills: int) -> None:
    kills = int(os.environ.get("IDEMPOTENCY_KILLS", kills))
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    wanted = list(itertools.product(PATHS, STEPS)) * kills
    random.Random(seed).shuffle(wanted)
    with (
        Report(campaign="payouts", seed=seed) as report,
        Bank(tmp_path / "ledger") as bank,
        two_servers(alice, tmp_path, bank, threads=8) as (server, other),
        ThreadPoolExecutor(8) as pool,
    ):
        started = [kill(server, other, pool, path, step) for path, step in wanted]
        crashes = [crash.result() for crash in started]
        check_rows(report, crashes)
        check_ledger(report, crashes, bank.ledger()["by_key"], alice.user)
        report.counts = {"kills": len(crashes), **count(crashes), "calls of the bank": bank.ledger()["calls"]}
    assert not report.violations


def kill(server: Server, other: Server, pool: ThreadPoolExecutor, path: str, step: str) -> Future[Crash]:
    """Kill one worker; somebody else retries while the next one is killed, at a server that stays alive."""
    key = new_key()
    body = {"amount": 3, "reference": key}
    workers = server.worker_ids()
    answers = []
    with suppress(OSError, HTTPException):
        answers.append(server.post(path, body, key=key, headers={HEADER: step}))
    killed = time.monotonic()
    eventually(lambda: workers - server.worker_ids(), "the kill that the client could not notice")
    retried = pool.submit(retry, other, path, step, key, answers, killed)
    eventually(lambda: len(server.worker_ids()) == server.workers, "a new worker")
    return retried


def retry(server: Server, path: str, step: str, key: str, answers: list[Answer], killed: float) -> Crash:
    """Retry until the operation is no longer in progress, and twice more."""
    body = {"amount": 3, "reference": key}
    while (answer := server.post(path, body, key=key)).problem == "in-progress":
        assert time.monotonic() < killed + TIMEOUT, f"{step}: in progress for ever"
        time.sleep(PAUSE)
    seconds = time.monotonic() - killed
    answers += [answer, *(server.post(path, body, key=key) for _ in range(2))]
    return Crash(path=path, step=step, key=key, answers=answers, seconds=seconds)


def check_rows(report: Report, crashes: list[Crash]) -> None:
    """Compare what the clients were told with what the database holds."""
    for crash in crashes:
        step, (first, *again) = f"{crash.path} {crash.step}", crash.answers[-3:]
        report.expect(crash.seconds < SOON, f"I6 {step}: free after {crash.seconds:.2f} s")
        report.expect(
            len(crash.answers) == 3 or crash.step == "after response", f"{step}: answered in spite of the kill"
        )
        rows = Payment.objects.filter(reference=crash.key).count()
        status = Record.objects.filter(key=crash.key).values_list("status", flat=True)
        if crash.is_unknown:
            problems = {answer.problem for answer in crash.answers}
            report.expect(problems == {"outcome-unknown"}, f"I9 {step}: {first.status} {first.body!r}")
            report.expect((rows, *status) == (0, "unknown"), f"I9 {step}: {rows} payments, {status} records")
            continue
        report.expect(first.status == 201, f"I6 {step}: the first retry got {first.status} {first.body!r}")
        report.expect(first.is_replayed == (crash.step in AFTER_THE_COMMIT), f"I3 {step}: replayed {first.is_replayed}")
        report.expect(all(answer.is_replayed for answer in again), f"I2 {step}: not replayed")
        report.expect(len({answer.body for answer in crash.answers}) == 1, f"I2 {step}: other bytes replayed")
        report.expect((rows, *status) == (1, "completed"), f"I1 {step}: {rows} payments, {status} records")


def check_ledger(report: Report, crashes: list[Crash], accounts: Mapping[str, Any], user: User) -> None:
    """Compare what the clients were told with what the bank holds."""
    called = {bank_key(crash, user): crash for crash in crashes if crash.calls}
    report.expect(accounts.keys() == called.keys(), f"I9: the bank knows {len(accounts)} keys, not {len(called)}")
    for key, crash in called.items():
        account = accounts.get(key, {"calls": 0, "payments": 0})
        paid = account["calls"], account["payments"]
        report.expect(paid == (crash.calls, 1), f"I9 {crash.step}: {paid} calls and payments, not {crash.calls}")
        if not crash.is_unknown:
            told = json.loads(crash.answers[-1].body).get("bank_reference")
            report.expect(told == account.get("reference"), f"I3 {crash.step}: another reference than the bank's")


def bank_key(crash: Crash, user: User) -> str:
    """Return the key that the bank is given for an operation."""
    name = f"POST {crash.path.strip('/')}-list"
    key = IdempotencyKey(value=crash.key, scope=user_scope(user), operation=name)
    return Claim(operation=Operation(key=key, content_digest=b"", keyring=settings.keyring)).derive_key(
        "bank", "transfer"
    )


def count(crashes: list[Crash]) -> dict[str, Any]:
    waited = [crash.seconds for crash in crashes if crash.step not in (*FREE_AT_ONCE, *AFTER_THE_COMMIT)]
    return {
        "unknown": sum(crash.is_unknown for crash in crashes),
        "from the kill to the first answer, seconds": {
            "median": round(median(waited), 3),
            "slowest": round(max(waited), 3),
        },
    }

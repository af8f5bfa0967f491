"""How long a lease keeps others out: as long as the heart beats, whatever clocks say, and hardly longer.

``python -m pytest -m campaign tests/campaigns/test_leases.py`` kills 200 requests, eight at a time, on PostgreSQL or,
with ``DATABASE_URL=sqlite``, on SQLite; the default run kills four.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from statistics import median

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.harness import TIMEOUT, Answer, Bank, Report, Server, eventually
from tests.campaigns.lease_failpoints import HeldRequests
from tests.campaigns.sessions import other_sessions
from tests.campaigns.test_zombies import APP, two_servers
from tests.campaigns.views_leases import LEASE
from tests.models import Payment

SOON = LEASE.total_seconds() + 1
PAUSE = 0.02
LIBRARIES = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
HOUR = timedelta(hours=1)


def duplicates(held: HeldRequests, server: Server, leases: int) -> list[Answer]:
    """Send duplicates until all claims are this many leases old by the clock of the database."""
    answers: list[Answer] = []
    old = Record.objects.filter(key__in=held.steps, created_at__lte=Now() - leases * LEASE)
    deadline = time.monotonic() + TIMEOUT
    while old.count() < len(held.steps):
        assert time.monotonic() < deadline, "the claims never grow old"
        answers += held.retries(server).values()
    return answers


def kill(held: HeldRequests, server: Server) -> list[float]:
    """Kill the processes once their hearts have beaten; return after how many seconds each key was carried out."""
    beaten = Record.objects.filter(key__in=held.steps, lease_expires_at__gt=F("created_at") + LEASE)
    eventually(lambda: beaten.count() == len(held.steps), "heartbeats")
    killed = time.monotonic()
    held.kill()
    seconds = list(held.pool.map(lambda key: seconds_until_done(held, server, key, killed), held.steps))
    eventually(lambda: len(held.server.worker_ids() - held.processes) == held.server.workers, "new workers")
    return seconds


def seconds_until_done(held: HeldRequests, server: Server, key: str, killed: float) -> float:
    while (answer := held.post(server, key)).problem == "in-progress":
        assert time.monotonic() < killed + TIMEOUT, "in progress for ever"
        time.sleep(PAUSE)
    assert (answer.status, answer.is_replayed) == (201, False)
    return time.monotonic() - killed


def long_steps() -> tuple[str, ...]:
    """Return the steps that may last: on SQLite, who writes keeps everybody out by more than a lease."""
    return ("before call",) if connection.vendor == "sqlite" else ("before call", "after write")


def test_a_view_longer_than_its_lease_runs_once_while_its_heart_beats(alice: Caller, tmp_path: Path) -> None:
    with (
        Report(campaign="long views") as report,
        Bank(tmp_path / "ledger") as bank,
        two_servers(alice, tmp_path, bank, threads=4) as (server, other),
        ThreadPoolExecutor(8) as pool,
    ):
        steps = {new_key(): step for step in long_steps()}
        held = HeldRequests(server=server, pool=pool, folder=tmp_path, steps=steps)
        sent = duplicates(held, other, leases=4)
        held.let_go()
        refused = {answer.problem for answer in sent}
        report.expect(refused == {"in-progress"}, f"I1: duplicates got {refused}")
        for key, answer in held.answers().items():
            retry = held.post(other, key)
            report.expect(answer.status == 201 and not answer.is_replayed, f"I1: {answer.status} {answer.body!r}")
            report.expect(retry.is_replayed and retry.body == answer.body, f"I2: {retry.status} {retry.body!r}")
        report.expect(Payment.objects.count() == len(steps), "I1: not one payment a key")
        report.expect(bank.ledger()["calls"] == len(steps), "I1: not one call a key")
        report.expect(not Record.objects.exclude(attempt=1).exists(), "I1: another attempt")
        report.counts = {"views": len(steps), "leases": 4, "duplicates refused": len(sent)}
    assert not report.violations


@pytest.mark.parametrize(
    ("rounds", "keys"),
    [(1, 4), pytest.param(25, 8, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])],
)
def test_a_killed_view_frees_its_key_within_its_lease_and_a_second(
    alice: Caller, tmp_path: Path, rounds: int, keys: int
) -> None:
    seconds: list[float] = []
    with (
        Report(campaign="killed views") as report,
        Bank(tmp_path / "ledger") as bank,
        two_servers(alice, tmp_path, bank, threads=keys) as (server, other),
        ThreadPoolExecutor(2 * keys) as pool,
    ):
        for _ in range(rounds):
            steps = {new_key(): long_steps()[number % len(long_steps())] for number in range(keys)}
            seconds += kill(HeldRequests(server=server, pool=pool, folder=tmp_path, steps=steps), other)
        report.expect(max(seconds) < SOON, f"I6: a key was free after {max(seconds):.2f} s")
        report.expect(Payment.objects.count() == rounds * keys, "I1: not one payment a key")
        report.expect(bank.ledger()["payments"] == rounds * keys, "I1: the bank has not paid once a key")
        report.counts = {
            "kills": len(seconds),
            "from the kill to the first success, seconds": {
                "median": round(median(seconds), 3),
                "slowest": round(max(seconds), 3),
            },
        }
    assert not report.violations


@pytest.mark.postgresql  # which has a clock of its own
@pytest.mark.skipif(not LIBRARIES, reason="libfaketime (of Debian) is not installed")
def test_a_wrong_clock_of_the_application_neither_ends_nor_prolongs_a_lease(alice: Caller, tmp_path: Path) -> None:
    right, fast, slow = (
        Server(token=alice.token.key, app=APP, environment={"HOLDS": str(tmp_path), **clock(wrong)})
        for wrong in (timedelta(0), HOUR, -HOUR)
    )
    with right, fast, slow, ThreadPoolExecutor(16) as pool, other_sessions() as start:
        for server, wrong in ((right, timedelta(0)), (fast, HOUR), (slow, -HOUR)):
            assert abs(told_time(server) - datetime.now(UTC) - wrong) < timedelta(minutes=1)
        for check, *pairs in (
            (keep_out, (right, fast), (right, slow), (fast, right), (slow, right)),
            (set_free, (fast, right), (slow, right)),
            (set_free, (right, slow)),
        ):
            for checked in [start(check, pool, tmp_path, *pair) for pair in pairs]:
                checked.result()
    assert Payment.objects.count() == Record.objects.count() == 7


def keep_out(pool: ThreadPoolExecutor, folder: Path, holder: Server, rival: Server) -> None:
    """See that a rival neither takes over a live lease nor forgets an outcome."""
    held = hold_a_payment(holder, pool, folder)
    assert {answer.problem for answer in duplicates(held, rival, leases=2)} == {"in-progress"}
    held.let_go()
    ((key, first),) = held.answers().items()
    replays = [held.post(server, key) for server in (holder, rival)]
    assert first.status == 201
    assert all(replay.is_replayed and replay.body == first.body for replay in replays)


def set_free(pool: ThreadPoolExecutor, folder: Path, holder: Server, rival: Server) -> None:
    """See that a rival takes over from the dead as soon as ever."""
    assert max(kill(hold_a_payment(holder, pool, folder), rival)) < SOON


def hold_a_payment(server: Server, pool: ThreadPoolExecutor, folder: Path) -> HeldRequests:
    """Let a request wait with its row written, under a lease."""
    steps = {new_key(): "after write"}
    return HeldRequests(server=server, pool=pool, folder=folder, steps=steps, path="/payments/")


def clock(wrong: timedelta) -> dict[str, str]:
    """Return the environment of a process whose clock is wrong, though not that of its time-outs nor of its files."""
    if not wrong:
        return {}
    seconds = int(wrong.total_seconds())
    return {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME": f"{seconds:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def told_time(server: Server) -> datetime:
    """Return what a server takes the time to be."""
    return parsedate_to_datetime(server.post("/payments/").headers["date"])

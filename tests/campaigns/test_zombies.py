"""Workers stopped by SIGSTOP until their leases have ended and others have taken over, then continued by SIGCONT.

``python -m pytest -m campaign tests/campaigns/test_zombies.py`` makes 1000 zombies, 20 at each of 50 stops, on
PostgreSQL or, with ``DATABASE_URL=sqlite``, on SQLite; the default run makes 10 at one stop.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from django.db import connection
from django.db.models.functions import Now

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.harness import Bank, Report, Server, eventually
from tests.campaigns.lease_failpoints import AROUND_THE_STEP, IN_THE_TRANSACTION, HeldRequests
from tests.models import Payment

APP = "tests.campaigns.lease_wsgi:application"


@contextmanager
def two_servers(caller: Caller, folder: Path, bank: Bank, *, threads: int) -> Iterator[tuple[Server, Server]]:
    """Serve twice from one database, so that one lives whatever happens to the other."""
    environment = {"HOLDS": str(folder), "BANK_URL": bank.url}
    one, other = (Server(token=caller.token.key, app=APP, environment=environment, threads=threads) for _ in range(2))
    with one, other:
        yield one, other


@contextmanager
def stopped(held: HeldRequests) -> Iterator[None]:
    """Stop the processes for the length of the block; then let the requests go on."""
    for process in held.processes:
        os.kill(process, signal.SIGSTOP)
    try:
        eventually(lambda: all(is_stopped(process) for process in held.processes), "the stop")
        yield
        held.let_go()
    finally:
        for process in held.processes:
            os.kill(process, signal.SIGCONT)


def is_stopped(process: int) -> bool:
    return psutil.Process(process).status() == psutil.STATUS_STOPPED


def await_the_end_of_leases(held: HeldRequests) -> None:
    """Wait until the leases have ended by the clock of the database."""
    lapsed = Record.objects.filter(key__in=held.steps, status="in_progress", lease_expires_at__lte=Now())
    eventually(lambda: lapsed.count() == len(held.steps), "the end of all leases")


def waiting_steps() -> tuple[str, ...]:
    """Return the steps at which a worker lets others go on: on SQLite none at which it has written something."""
    return AROUND_THE_STEP if connection.vendor == "sqlite" else AROUND_THE_STEP + IN_THE_TRANSACTION


@pytest.mark.parametrize(
    ("stops", "zombies"),
    [(1, 10), pytest.param(50, 20, marks=[pytest.mark.campaign, pytest.mark.timeout(1800)])],
)
def test_a_zombie_that_lost_its_lease_commits_nothing(alice: Caller, tmp_path: Path, stops: int, zombies: int) -> None:
    steps = itertools.cycle(waiting_steps())
    counts: Counter[str] = Counter()
    with (
        Report(campaign="zombies") as report,
        Bank(tmp_path / "ledger") as bank,
        two_servers(alice, tmp_path, bank, threads=zombies) as (server, other),
        ThreadPoolExecutor(2 * zombies) as pool,
    ):
        for _ in range(stops):
            keys = {new_key(): next(steps) for _ in range(zombies)}
            held = HeldRequests(server=server, pool=pool, folder=tmp_path, steps=keys)
            take_over_from_zombies(report, held, other, counts)
        every = stops * zombies
        rows = Payment.objects.count(), Record.objects.count()
        ledger = bank.ledger()
        paid = [account["payments"] for account in ledger["by_key"].values()]
        report.expect(rows == (every, every), f"I1: {rows} payments and records of {every} keys")
        report.expect(paid == [1] * every, f"I1: the bank has paid {sum(paid)} times for {every} keys")
        report.counts = {
            "stops": stops,
            "zombies": every,
            "their answers": dict(counts),
            "calls of the bank": ledger["calls"],
        }
    assert not report.violations


def take_over_from_zombies(report: Report, held: HeldRequests, other: Server, counts: Counter[str]) -> None:
    """Stop, take over, continue, and compare what all clients were told with what the database holds."""
    with stopped(held):
        await_the_end_of_leases(held)
        winners = held.retries(other)
    zombies = held.answers()
    retries = [held.retries(server) for server in (held.server, other)]
    counts.update(answer.problem or str(answer.status) for answer in zombies.values())
    for key, step in held.steps.items():
        winner, zombie = winners[key], zombies[key]
        report.expect(winner.status == 201 and not winner.is_replayed, f"I6 {step}: took over by {winner.status}")
        report.expect(zombie.problem == "lease-lost", f"I7 {step}: the zombie got {zombie.status} {zombie.body!r}")
        report.expect(all(retry[key].is_replayed for retry in retries), f"I2 {step}: not replayed")
        bodies = {winner.body, *(retry[key].body for retry in retries)}
        report.expect(len(bodies) == 1, f"I2 {step}: other bytes replayed")
        report.expect(Payment.objects.filter(reference=key).count() == 1, f"I1 {step}: not one payment")
        report.expect(Record.objects.get(key=key).attempt == 2, f"I7 {step}: not the second attempt")


@pytest.mark.postgresql
def test_a_zombie_whose_completion_is_written_but_not_committed_keeps_the_key(alice: Caller, tmp_path: Path) -> None:
    key = new_key()
    with (
        Bank(tmp_path / "ledger") as bank,
        two_servers(alice, tmp_path, bank, threads=4) as (server, other),
        ThreadPoolExecutor(4) as pool,
    ):
        held = HeldRequests(server=server, pool=pool, folder=tmp_path, steps={key: "after complete"})
        with stopped(held):
            await_the_end_of_leases(held)
            retry = pool.submit(held.post, other, key)
            eventually(retry.done, "the retry is answered")
        first, retried = held.answers()[key], retry.result()
        again = held.post(other, key)
    assert (first.status, first.is_replayed) == (201, False)
    assert retried.problem == "in-progress"
    assert (again.is_replayed, again.body) == (True, first.body)
    assert Payment.objects.count() == 1
    assert Record.objects.get(key=key).attempt == 1

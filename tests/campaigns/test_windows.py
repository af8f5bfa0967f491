"""Windows under contention: one accept a payload, and no deadlock.

``python -m pytest -m campaign tests/campaigns/test_windows.py`` runs 16 threads over 10 000 payloads at each isolation
level, and opposite batches over 8 connections for five minutes in all; with ``DATABASE_URL=sqlite`` only the former, on
SQLite. The default run is a smaller one.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction

from django_idempotency.writes import DedupWindow
from tests.campaigns.harness import Report
from tests.campaigns.sessions import connection_options, seen_from_outside
from tests.models import Payment
from tests.writes.sequences import DAY, START

pytestmark = pytest.mark.django_db(transaction=True)

LEVELS = ("READ_COMMITTED", "REPEATABLE_READ", "SERIALIZABLE")
THREADS = 16
CONNECTIONS = 8
ROLLED_BACK = 0.3
SMALL, FULL = pytest.param(60), pytest.param(10_000, marks=[pytest.mark.campaign, pytest.mark.timeout(7200)])


@contextmanager
def isolated(level: str) -> Any:
    """Let all sessions work at this level (PostgreSQL)."""
    if connection.vendor == "sqlite":
        yield
        return
    from psycopg import IsolationLevel

    with connection_options(isolation_level=getattr(IsolationLevel, level)):
        yield


def windows(mode: str) -> DedupWindow:
    return DedupWindow("campaign", ttl=DAY, fields=["id"], mode=mode)  # type: ignore[arg-type]


class Worker:
    """Sees every payload once, in an order of its own, each with its effect; some of that is rolled back.

    What the database refuses because of a rival is tried again. ``tally`` counts what happened, for all threads.
    """

    def __init__(self, window: DedupWindow, payloads: int, seed: int, tally: Counter[str], lock: Lock) -> None:
        self._window, self._payloads, self._chance = window, payloads, random.Random(seed)
        self._tally, self._lock = tally, lock

    def work(self) -> None:
        try:
            for payload in self._chance.sample(range(self._payloads), self._payloads):
                self._note(self._until_answered(payload))
        finally:
            connections.close_all()

    def _until_answered(self, payload: int) -> str:
        while True:
            try:
                return self._try(payload)
            except OperationalError as error:
                if getattr(error.__cause__, "sqlstate", None) != "40001":
                    raise
                self._note("serialization failures")

    def _try(self, payload: int) -> str:
        with transaction.atomic():
            if not self._window.first({"id": payload}, at=START if self._window.mode == "event_time" else None):
                return "duplicates"
            Payment.objects.create(reference=str(payload), amount=1)
            if self._chance.random() < ROLLED_BACK:
                transaction.set_rollback(True)
                return "rolled back"
        return "accepted"

    def _note(self, what: str) -> None:
        with self._lock:
            self._tally[what] += 1


def run_threads(calls: Sequence[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


def effects() -> Counter[str]:
    return Counter(Payment.objects.values_list("reference", flat=True))


@pytest.mark.parametrize("payloads", [SMALL, FULL])
@pytest.mark.parametrize("mode", ["fixed", "event_time"])
@pytest.mark.parametrize("level", LEVELS)
def test_each_payload_is_accepted_once(level: str, mode: str, payloads: int) -> None:
    if connection.vendor == "sqlite" and level != "SERIALIZABLE":
        pytest.skip("SQLite knows one level")
    tally: Counter[str] = Counter()
    lock, name = Lock(), f"windows, {mode} at {level}"
    with Report(campaign=name, seed=0) as report, isolated(level):
        run_threads([Worker(windows(mode), payloads, seed, tally, lock).work for seed in range(THREADS)])
        counts = seen_from_outside(effects)
        # A payload of which all sixteen attempts were rolled back is accepted by nobody; that is as it should be.
        twice = {payload: count for payload, count in counts.items() if count > 1}
        report.expect(not twice, f"I1: {len(twice)} payloads have several effects")
        report.expect(tally["accepted"] == len(counts), f"{tally['accepted']} accepted, {len(counts)} effects")
        total = tally["accepted"] + tally["duplicates"] + tally["rolled back"]
        report.expect(total == payloads * THREADS, f"I8: {total} answers to {payloads * THREADS} questions")
        report.counts = {"payloads": payloads, "threads": THREADS, **tally}
    print(name, report.counts, f"{report.seconds} s")
    assert not report.violations
    assert tally["rolled back"] > 0
    assert len(counts) >= 0.99 * payloads


@pytest.mark.parametrize("seconds", [0.5, pytest.param(75, marks=[pytest.mark.campaign, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("options", [{}, {"mode": "sliding"}, {"track_hits": True}, {"mode": "event_time"}], ids=str)
@pytest.mark.postgresql
def test_batches_in_opposite_orders_do_not_deadlock(options: dict[str, Any], seconds: int) -> None:
    window = DedupWindow("campaign", ttl=DAY, fields=["id"], **options)
    tally: Counter[str] = Counter()
    started = time.monotonic()
    with Report(campaign=f"opposite batches, {options}", seed=0) as report:
        while time.monotonic() - started < seconds:
            batch = [{"id": f"{tally['rounds']} {number}"} for number in range(1200)]
            answers: list[tuple[int, int]] = []

            def deliver(payloads: list[dict[str, str]], into: list[tuple[int, int]] = answers) -> None:
                try:
                    with transaction.atomic():
                        split = window.split(payloads, at=START if window.mode == "event_time" else None)
                        into.append((len(split.fresh), len(split.duplicates)))
                finally:
                    connections.close_all()

            orders = [batch, batch[::-1]] * (CONNECTIONS // 2)
            run_threads([lambda order=order: deliver(order) for order in orders])  # type: ignore[misc]
            fresh = sum(fresh for fresh, _ in answers)
            report.expect(fresh == len(batch), f"I1: {fresh} accepted of {len(batch)}")
            tally["rounds"] += 1
        report.counts = {"connections": CONNECTIONS, **tally}
    print(options, report.counts, f"{report.seconds} s")
    assert not report.violations


@pytest.mark.postgresql
def test_statements_in_opposite_orders_do_deadlock() -> None:
    """The negative control: what ``split`` sorts away is real."""
    window = windows("fixed")
    first_done = [Lock(), Lock()]
    for lock in first_done:
        lock.acquire()

    def deliver(mine: int) -> str:
        try:
            with transaction.atomic():
                window.first({"id": mine})
                first_done[mine].release()
                assert first_done[1 - mine].acquire(timeout=30)
                window.first({"id": 1 - mine})
            return "done"
        except OperationalError as error:
            return str(getattr(error.__cause__, "sqlstate", ""))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(deliver, range(2))) == ["40P01", "done"]

"""Workers in processes of their own behind one watermark: no row is skipped, none is read again beyond the lag.

``python -m pytest -m campaign tests/reprocessing/test_workers.py -s`` runs eight workers over 4 000 rows that are
committed out of order, or with ``DATABASE_URL=sqlite`` over 200, since they all wait for each other there; the default
run three workers over 80 rows.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from threading import Barrier

import pytest
from django.db import connection, transaction

from django_idempotency.reprocessing import Watermark
from tests.campaigns.harness import ROOT, Report, database_url, eventually
from tests.campaigns.sessions import PATIENCE, other_sessions
from tests.reprocessing.models import Entry

WRITERS = 4
#: A row is committed before the fourth one behind it is numbered.
LAG = WRITERS


@contextmanager
def worker() -> Iterator[subprocess.Popen[str]]:
    """Start a worker."""
    environment = {**os.environ, "DATABASE_URL": database_url({}), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-m", "tests.reprocessing.worker", str(LAG)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def write(number: int, rounds: int, barrier: Barrier) -> None:
    """Enter a row a round, to be committed before or after those of the other writers."""
    chance = random.Random(number)
    for round_ in range(rounds):
        with transaction.atomic():
            Entry.objects.create(account="row", amount=WRITERS * round_ + number)
            time.sleep(chance.random() * 0.02)
        barrier.wait(PATIENCE)


def write_all(rounds: int) -> int:
    """Enter all rows; return how many."""
    barrier = Barrier(WRITERS)
    with other_sessions() as start:
        writers = [start(write, number, rounds, barrier) for number in range(WRITERS)]
        for writer in writers:
            writer.result(PATIENCE + rounds)
    return WRITERS * rounds


@pytest.mark.parametrize(
    ("workers", "rounds"), [(3, 20), pytest.param(8, 1000, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])]
)
def test_windows_of_many_workers_meet_and_overlap_by_the_lag(workers: int, rounds: int) -> None:
    rounds = rounds if connection.vendor == "postgresql" else min(rounds, 50)
    connection.close()
    with Report(campaign="workers behind one watermark") as report, ExitStack() as stack:
        started = [stack.enter_context(worker()) for _ in range(workers)]
        assert [process.stdout and process.stdout.readline() for process in started] == ["ready\n"] * workers
        total = write_all(rounds)
        # What is late at the end is read when the source has moved on.
        Entry.objects.create(account="row", amount=total)
        mark = Watermark("shared", type=int)
        eventually(lambda: mark.position == total + 1, "the end of the source")
        told = [json.loads(process.communicate("end\n", timeout=PATIENCE)[0]) for process in started]
        windows = sorted((window for each in told for window in each), key=lambda window: window[1])
        seen = Counter(Entry.objects.filter(account="seen").values_list("amount", flat=True))
        report.counts = {
            "workers with a window": sum(map(bool, told)),
            "windows": len(windows),
            "rows": total + 1,
            "rows read again": sum(seen.values()) - len(seen),
        }
        print(report.counts)
    assert windows[0][0] is None
    assert all(low == before - LAG and before < high for (_, before), (low, high) in pairwise(windows))
    assert windows[-1][1] == total + 1
    assert set(seen) == set(range(total + 1))
    for number, times in seen.items():
        assert times <= sum((-LAG if low is None else low) <= number < high for low, high in windows)
    assert sum(map(bool, told)) > 1

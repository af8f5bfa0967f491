"""SIGKILL of a build, again and again: it goes on where it broke off, and reads each row once.

``python -m pytest -m campaign tests/reprocessing/test_kill.py`` kills 50 builds, on PostgreSQL or, with
``DATABASE_URL=sqlite``, on SQLite; the default run kills three. IDEMPOTENCY_KILLS and IDEMPOTENCY_SEED override the
number and the moments.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import Any

import pytest
from django.db import connection

from django_idempotency.reprocessing import Rollout
from django_idempotency.reprocessing.models import Generation
from tests.campaigns.harness import ROOT, Report, database_url
from tests.reprocessing.projections import Adding, enter, expected, found
from tests.reprocessing.test_rollouts import WHO

ROWS = 4000


def start() -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url({}),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.reprocessing.builder"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def kill_after(batches: int, chance: random.Random) -> int:
    """Start a build, kill it at any moment after so many batches; return how many rows it had told of."""
    rows = 0
    with start() as process:
        assert process.stdout
        for _ in range(batches):
            if line := process.stdout.readline():
                rows = int(line)
        time.sleep(chance.random() * 0.005)
        process.kill()
        process.wait()
    return rows


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.campaign)])
def test_a_build_that_is_killed_goes_on_and_comes_to_the_same(kills: int) -> None:
    kills = int(os.environ.get("IDEMPOTENCY_KILLS", kills))
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    chance = random.Random(seed)
    enter(ROWS)
    connection.close()
    told = []
    with Report(campaign="kill of a build", seed=seed) as report:
        for _ in range(kills):
            told.append(kill_after(chance.randrange(0, 8), chance))
            counted = Generation.objects.values_list("rows_read", flat=True).first() or 0
            report.expect(counted >= sum(told), f"{sum(told)} rows were told of, {counted} are kept")
        kept = Generation.objects.values_list("rows_read", flat=True).first() or 0
        rollout: Any = Rollout(Adding(version=1))
        rest = rollout.build()
        report.expect(kept + rest == ROWS, f"{kept} rows before, {rest} after the last kill")
        rollout.promote(WHO)
        report.expect(found() == expected(), "other sums than those computed apart")
        report.counts = {"kills": kills, "rows before the last build": kept, "rows": ROWS}
    assert 0 < kept < ROWS
    assert report.violations == []

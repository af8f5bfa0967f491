"""SIGKILL of a build, again and again: it goes on where it broke off, and reads each row once.

``python -m pytest -m campaign tests/reprocessing/test_kill.py -s`` kills 50 builds of 4 000 rows, and five of a million
rows, on PostgreSQL or, with ``DATABASE_URL=sqlite``, on SQLite; the default run kills three. IDEMPOTENCY_KILLS and
IDEMPOTENCY_SEED override the number and the moments.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection

from django_idempotency.reprocessing import Rollout
from django_idempotency.reprocessing.models import Generation
from tests.campaigns.harness import ROOT, Report, database_url
from tests.reprocessing.projections import Adding, enter_many, expected, found
from tests.reprocessing.statements import changes_watched
from tests.reprocessing.test_rollouts import WHO


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """How many rows are read how many at a time, how often that is killed, and after how many batches at most."""

    rows: int
    batch: int
    kills: int
    batches: int


SHORT = Backfill(rows=1500, batch=7, kills=3, batches=8)
MANY = Backfill(rows=4000, batch=7, kills=50, batches=8)
LONG = Backfill(rows=1_000_000, batch=5000, kills=5, batches=39)


def start(batch: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url({}),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.reprocessing.builder", str(batch)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def kill_after(batches: int, chance: random.Random, batch: int) -> int:
    """Start a build, kill it at any moment after so many batches; return how many rows it had told of."""
    rows = 0
    with start(batch) as process:
        assert process.stdout
        for _ in range(batches):
            if line := process.stdout.readline():
                rows = int(line)
        time.sleep(chance.random() * 0.005)
        process.kill()
        process.wait()
    return rows


def build(version: int, batch: int) -> tuple[Rollout, int]:
    """Build a version, or the rest of it; return the rows read now."""
    projection: Any = Adding(version=version)
    projection.batch_size = batch
    rollout = Rollout(projection)
    return rollout, rollout.build()


def rows_kept() -> int:
    return Generation.objects.filter(version=1).values_list("rows_read", flat=True).first() or 0


@pytest.mark.parametrize(
    "backfill",
    [
        SHORT,
        pytest.param(MANY, marks=pytest.mark.campaign),
        pytest.param(LONG, marks=[pytest.mark.campaign, pytest.mark.timeout(1800)]),
    ],
    ids=lambda backfill: f"{backfill.kills} of {backfill.rows}",
)
def test_a_build_that_is_killed_goes_on_and_comes_to_the_same(backfill: Backfill) -> None:
    kills = int(os.environ.get("IDEMPOTENCY_KILLS", backfill.kills))
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    chance = random.Random(seed)
    enter_many(backfill.rows)
    connection.close()
    told = []
    with Report(campaign=f"kill of a build of {backfill.rows} rows", seed=seed) as report:
        for _ in range(kills):
            told.append(kill_after(chance.randrange(0, backfill.batches), chance, backfill.batch))
            counted = rows_kept()
            report.expect(counted >= sum(told), f"{sum(told)} rows were told of, {counted} are kept")
        kept = rows_kept()
        killed, rest = build(1, backfill.batch)
        report.expect(kept + rest == backfill.rows, f"{kept} rows before, {rest} after the last kill")
        killed.promote(WHO)
        before = found()
        report.expect(before == expected(), "other sums than those computed apart")
        clean, read = build(2, 5000)
        report.expect(read == backfill.rows, f"a clean build has read {read} rows")
        clean.promote(WHO)
        report.expect(found() == before, "other sums than those of a clean build")
        with changes_watched("tests_total") as changes:
            clean.roll_back(WHO)
        report.expect(found() == before, "other sums after the rollback")
        report.counts = {
            "kills": kills,
            "rows before the last build": kept,
            "rows": backfill.rows,
            "statements of the rollback": len(changes),
        }
        print(report.counts)
    assert 0 < kept < backfill.rows
    assert len(changes) == (1 if connection.vendor == "postgresql" else 2)
    assert report.violations == []

"""``python -m tests.benchmarks purge``: what deleting a million of two million records costs the requests beside it.

For each batch size and pause, a copy of the same database serves fresh requests before the purge and as long as it runs
in a process of its own; the goals are those of the defaults of ``idempotency_purge``. ``--records`` makes the database
smaller, to try the benchmark out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from tests.benchmarks import records
from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Goal, Spread
from tests.benchmarks.reports import Report
from tests.benchmarks.runs import Run, Target, measure, measure_during
from tests.benchmarks.services import Service

RECORDS = 2_000_000
RUNS_BEFORE = 3
WORST_BATCH_MS = Goal(at_most=250)
THROUGHPUT = Goal(at_least=0.8)
_WARM_UP_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Records a batch, and seconds of pause between two batches."""

    batch_size: int
    pause: float

    def __str__(self) -> str:
        return f"{self.batch_size} and {1000 * self.pause:g} ms"


DEFAULT = Pace(batch_size=1000, pause=0.05)
PACES = tuple(Pace(batch_size=size, pause=pause) for size in (1000, 5000) for pause in (0, 0.05))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Runs before one purge, the run during it, and the milliseconds of its batches."""

    pace: Pace
    before: list[Run]
    during: Run
    deleted: int
    batch_ms: list[float]

    @property
    def throughput(self) -> float:
        """Requests a second during the purge in relation to before it."""
        return self.during.rate / fmean(run.rate for run in self.before)

    @property
    def facts(self) -> dict[str, Any]:
        """What tells how long the purge took, and whether batches slow down as it proceeds."""
        tenth = max(len(self.batch_ms) // 10, 1)
        return {
            "deleted": self.deleted,
            "batches": len(self.batch_ms),
            "seconds": round(self.during.seconds, 1),
            "median batch ms": round(median(self.batch_ms), 1),
            "of the first tenth": round(median(self.batch_ms[:tenth]), 1),
            "of the last tenth": round(median(self.batch_ms[-tenth:]), 1),
        }


def run(bench: Bench) -> Report:
    """Try every pace in every round."""
    total = bench.options.records or RECORDS
    bench.say(f"making {total} records, half of them expired")
    original = bench.databases.new()
    records.fill(original, total // 2, expired=True)
    records.fill(original, total // 2)
    trials = [_try(bench, original, pace) for _ in bench.rounds(default=1) for pace in bench.shuffled(PACES)]
    return Report(
        benchmark="purge",
        runs=[run for trial in trials for run in (*trial.before, trial.during)],
        figures=[figure for pace in PACES for figure in _figures([trial for trial in trials if trial.pace is pace])],
        facts={f"{number}: {trial.pace}": trial.facts for number, trial in enumerate(trials, start=1)},
    )


def _try(bench: Bench, original: str, pace: Pace) -> Trial:
    url = bench.databases.copy(original)
    bench.databases.checkpoint()
    try:
        with bench.service(url) as service, _purging(url, pace) as process:
            return _measure(service, process, pace, bench.seconds)
    finally:
        bench.databases.drop(url)


def _measure(service: Service, process: subprocess.Popen[str], pace: Pace, seconds: int) -> Trial:
    before = Target(name="before", service=service, path="/protected/", has_keys=True)
    during = Target(name=str(pace), service=service, path="/protected/", has_keys=True)
    measure(before, _WARM_UP_SECONDS)
    runs_before = [measure(before, seconds) for _ in range(RUNS_BEFORE)]
    said: list[str] = []
    run_during = measure_during(during, lambda: said.append(process.communicate("purge\n")[0]))
    return Trial(pace=pace, before=runs_before, during=run_during, **json.loads(said[0]))


@contextmanager
def _purging(url: str, pace: Pace) -> Iterator[subprocess.Popen[str]]:
    """Start a process that is ready to purge, and waits for a line."""
    command = [sys.executable, "-m", "tests.benchmarks.purging"]
    options = [f"--batch-size={pace.batch_size}", f"--pause={pace.pause}"]
    environment = {**os.environ, "DATABASE_URL": url}
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *options], env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def _figures(trials: list[Trial]) -> Iterator[Figure]:
    pace = trials[0].pace
    worst, throughput = (WORST_BATCH_MS, THROUGHPUT) if pace == DEFAULT else (None, None)
    longest = Spread.of([max(trial.batch_ms) for trial in trials])
    yield Figure(name=f"worst batch ms, {pace}", spread=longest, goal=worst)
    yield Figure(name=f"during / before, {pace}", spread=Spread.of([t.throughput for t in trials]), goal=throughput)

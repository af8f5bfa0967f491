"""``python -m tests.benchmarks jobs``: what a job costs beside its bare function in a transaction.

The function inserts one row. Measured are calls of it in ``transaction.atomic()``, the same under ``run_once`` with
keys that are new, and calls whose value is replayed. ``--records`` is the number of calls a round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Spread
from tests.benchmarks.reports import Report

CALLS = 200


def run(bench: Bench) -> Report:
    """Measure in a process of its own, whose database nobody else uses."""
    url = bench.databases.new()
    bench.databases.checkpoint()
    bench.say("running jobs")
    calls, rounds = bench.options.records or CALLS, bench.options.rounds or 15
    command = [sys.executable, "-m", "tests.benchmarks.running", f"--calls={calls}", f"--rounds={rounds}"]
    environment = {**os.environ, "DATABASE_URL": url}
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds: dict[str, list[float]] = json.loads(said)
    return Report(benchmark="jobs", runs=[], figures=_figures(seconds), facts=_facts(seconds, calls))


def _figures(seconds: dict[str, list[float]]) -> list[Figure]:
    bare = seconds["bare"]
    return [
        Figure(name=f"bare function / {name}", spread=_ratio(bare, values))
        for name, values in seconds.items()
        if name != "bare"
    ]


def _ratio(bare: list[float], measured: list[float]) -> Spread:
    return Spread.of([reference / value for reference, value in zip(bare, measured, strict=True)])


def _facts(seconds: dict[str, list[float]], calls: int) -> dict[str, Any]:
    return {"milliseconds a call": {name: round(1e3 * min(each) / calls, 3) for name, each in seconds.items()}}

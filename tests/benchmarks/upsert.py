"""``python -m tests.benchmarks upsert``: 20 000 rows by upsert, and by what one would write in its place.

In each round every way writes the same rows to the same table: new, unchanged, and with one in a hundred changed.
``--records`` is the number of rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Goal, Spread
from tests.benchmarks.reports import Report

ROWS, ROUNDS = 20_000, 7
#: What is compared: a phase with its unit, the other way, and the most that upsert may take of it.
_GOALS = (
    ("unchanged, seconds", "bulk_create", 0.6),
    ("unchanged, WAL", "bulk_create", 0.3),
    ("inserting, seconds", "bulk_create", 1.15),
    ("unchanged, seconds", "pgbulk", 1.0),
    ("inserting, seconds", "pgbulk", 1.0),
    ("changed, seconds", "pgbulk", 1.0),
)
Results = dict[str, list[dict[str, float]]]


def run(bench: Bench) -> Report:
    """Let a process of its own measure; draw the ratios of each round."""
    bench.say("writing rows")
    count, rounds = bench.options.records or ROWS, bench.options.rounds or ROUNDS
    command = [sys.executable, "-m", "tests.benchmarks.upserting", *map(str, (count, rounds, bench.options.seed))]
    environment = {**os.environ, "DATABASE_URL": bench.databases.new()}
    ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    results: Results = json.loads(ended.stdout)
    return Report(benchmark="upsert", runs=[], figures=[*_figures(results)], facts={"rows": count, **_medians(results)})


def _figures(results: Results) -> Iterator[Figure]:
    for guard in ("hash", "columns"):
        for phase, other, most in _GOALS:
            pairs = zip(results[f"upsert, {guard}"], results[f"{other}, {guard}"], strict=True)
            ratios = [new[phase] / old[phase] for new, old in pairs]
            yield Figure(name=f"{guard}, {phase}: / {other}", spread=Spread.of(ratios), goal=Goal(at_most=most))


def _medians(results: Results) -> dict[str, dict[str, str]]:
    return {
        way: {phase: f"{Spread.of([each[phase] for each in measured]).median:.3g}" for phase in measured[0]}
        for way, measured in results.items()
    }

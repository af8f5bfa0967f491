"""``python -m tests.benchmarks windows``: what telling 20 000 duplicates apart costs beside one plain query for them.

The reference is ``SELECT digest, expires_at … WHERE digest = ANY(…)`` with the digests ready and sorted, in batches of
the same size and on the same connection: what telling duplicates apart by hand would have to read. Further figures tell
what new payloads cost, what is spent on making digests, and what a query costs that asks for the digests alone, for
which the index will do. ``--records`` is the number of payloads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Goal, Spread
from tests.benchmarks.reports import Report

PAYLOADS = 20_000
DUPLICATES = Goal(at_least=0.5)


def run(bench: Bench) -> Report:
    """Measure in a process of its own, whose database nobody else uses."""
    url = bench.databases.new()
    bench.databases.checkpoint()
    bench.say("splitting")
    total, rounds = bench.options.records or PAYLOADS, bench.options.rounds or 15
    command = [sys.executable, "-m", "tests.benchmarks.splitting", f"--payloads={total}", f"--rounds={rounds}"]
    environment = {**os.environ, "DATABASE_URL": url}
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds: dict[str, list[float]] = json.loads(said)
    return Report(benchmark="windows", runs=[], figures=_figures(seconds), facts=_facts(seconds, total))


def _figures(seconds: dict[str, list[float]]) -> list[Figure]:
    goals = {"duplicates": DUPLICATES}
    return [
        Figure(name=f"plain query / {name}", spread=Spread.of(_ratios(seconds["query"], values)), goal=goals.get(name))
        for name, values in seconds.items()
        if name != "query"
    ]


def _ratios(query: list[float], measured: list[float]) -> list[float]:
    return [reference / value for reference, value in zip(query, measured, strict=True)]


def _facts(seconds: dict[str, list[float]], total: int) -> dict[str, Any]:
    return {"microseconds a payload": {name: round(1e6 * min(each) / total, 2) for name, each in seconds.items()}}

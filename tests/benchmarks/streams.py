"""``python -m tests.benchmarks streams``: what it costs to handle each event once, beside loops that do not.

The consumer keeps inbox, view and offsets in one transaction a batch. Its reference reads the same records in batches
of the same size, applies them to the same view by the same code, and commits offsets to the broker alone. The reference
of the relay reads the same rows and produces them, with neither claims nor a note of what was sent. ``--records`` is
the number of events; the broker is the embedded one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from demo_project.servers import embedded_kafka
from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Goal, Spread
from tests.benchmarks.reports import Report

EVENTS, ROUNDS = 20_000, 7
GOALS = {"consumer": Goal(at_least=0.5), "relay": Goal(at_least=0.7)}
Rates = dict[str, list[float]]


def run(bench: Bench) -> Report:
    """Measure in a process of its own, whose database and broker nobody else uses."""
    url = bench.databases.new()
    bench.databases.checkpoint()
    bench.say("publishing and consuming")
    count, rounds = bench.options.records or EVENTS, bench.options.rounds or ROUNDS
    kafka = embedded_kafka()
    try:
        command = [sys.executable, "-m", "tests.benchmarks.streaming", *map(str, (count, rounds, bench.options.seed))]
        environment = {**os.environ, "DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
        said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    finally:
        kafka.stop()
    measured: dict[str, Any] = json.loads(said)
    rates: Rates = measured["rates"]
    figures = [
        Figure(name=f"{name} / bare loop", spread=Spread.of(_ratios(rates, name)), goal=goal)
        for name, goal in GOALS.items()
    ]
    facts = {"events a second": {name: round(Spread.of(each).median) for name, each in rates.items()}}
    return Report(benchmark="streams", runs=[], figures=figures, facts={**facts, "statements": measured["statements"]})


def _ratios(rates: Rates, name: str) -> list[float]:
    return [ours / bare for ours, bare in zip(rates[name], rates[f"bare {name}"], strict=True)]

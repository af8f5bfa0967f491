"""``python -m tests.benchmarks queues``: tasks of Celery and of django-tasks-db, as jobs and plain.

In each round one worker writes as many rows as tasks, plainly and as jobs, and then gets the jobs once more. A ratio
is the speed of a worker beside one of plain tasks. ``--records`` is the number of tasks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from demo_project.servers import redis_url
from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Spread
from tests.benchmarks.reports import Report

TASKS, ROUNDS = 500, 5


def run(bench: Bench) -> Report:
    """Let a process of its own measure; draw the ratios of each round."""
    bench.say("doing tasks")
    count, rounds = bench.options.records or TASKS, bench.options.rounds or ROUNDS
    command = [sys.executable, "-m", "tests.benchmarks.queueing", *map(str, (count, rounds, bench.options.seed))]
    environment = {
        **os.environ,
        "DATABASE_URL": bench.databases.new(),
        "BROKER_URL": redis_url(),
        "CELERY_JOBS": "tests.benchmarks.queue_tasks",
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings_queues",
    }
    ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    results: dict[str, list[float]] = json.loads(ended.stdout.splitlines()[-1])
    milliseconds = {way: round(1000 * Spread.of(values).median / count, 2) for way, values in results.items()}
    return Report(
        benchmark="queues", runs=[], figures=[*_figures(results)], facts={"milliseconds a task": milliseconds}
    )


def _figures(results: dict[str, list[float]]) -> Iterator[Figure]:
    for queue in ("celery", "django-tasks-db"):
        plain = results[f"{queue}, plain"]
        for way in ("job", "replay"):
            ratios = [old / new for new, old in zip(results[f"{queue}, {way}"], plain, strict=True)]
            yield Figure(name=f"{queue}: plain task / {way}", spread=Spread.of(ratios))

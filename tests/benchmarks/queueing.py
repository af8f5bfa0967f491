"""``python -m tests.benchmarks.queueing TASKS ROUNDS SEED``: lets workers do tasks, as plain functions and as jobs.

On the database of DATABASE_URL, with a worker of Celery of one process at the broker of BROKER_URL, and a worker of
django-tasks-db in this process. Prints JSON: the seconds of each way, by round; a replay is a job that was done before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import django
from django.core.management import call_command

Measure = Callable[[str, Sequence[str]], float]


def main(count: int, rounds: int, seed: int) -> None:
    """Measure both queues, each way in a random order, after a round that does not count."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings_queues"
    django.setup()
    call_command("migrate", verbosity=0)
    results: dict[str, list[float]] = {}
    with celery_worker() as by_celery:
        for queue, measure in {"celery": by_celery, "django-tasks-db": by_django_tasks}.items():
            for number in range(-1, rounds):
                for way, seconds in one_round(measure, count, Random(f"{seed} {number}"), f"{queue} {number}"):
                    results.setdefault(f"{queue}, {way}", []).extend([seconds] if number >= 0 else [])
    print(json.dumps(results))


def one_round(measure: Measure, count: int, chance: Random, label: str) -> Iterator[tuple[str, float]]:
    """Measure the plain tasks and the jobs in a random order, then the jobs once more."""
    references = [f"{label} {number}" for number in range(count)]
    for way in chance.sample(("plain", "job"), 2):
        yield way, measure(way, references)
    yield "replay", measure("job", references)


@contextmanager
def celery_worker() -> Iterator[Measure]:
    """Start a worker; yield what sends it tasks and waits until they are done."""
    from tests.contrib.celery_app import app

    command = [sys.executable, "-m", "celery", "-A", "tests.contrib.celery_app:app", "worker", "--concurrency=1"]
    quiet = ["--loglevel=CRITICAL", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with subprocess.Popen([*command, *quiet], stdout=subprocess.DEVNULL) as worker:

        def measure(way: str, references: Sequence[str]) -> float:
            started = time.perf_counter()
            results = [app.send_task(way, [reference]) for reference in references]
            results[-1].get()
            seconds = time.perf_counter() - started
            assert all(isinstance(result.get(), int) for result in results)
            return seconds

        try:
            yield measure
        finally:
            worker.terminate()


def by_django_tasks(way: str, references: Sequence[str]) -> float:
    """Let a worker take what waits, and tell how long that took it."""
    from django_tasks_db.models import DBTaskResult

    from tests.benchmarks import queue_tasks

    DBTaskResult.objects.all().delete()
    task: Any = getattr(queue_tasks, f"django_{way}")
    for reference in references:
        task.enqueue(reference)
    started = time.perf_counter()
    call_command("db_worker", batch=True, startup_delay=False, reload=False, verbosity=0)
    seconds = time.perf_counter() - started
    assert DBTaskResult.objects.successful().count() == len(references)
    return seconds


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

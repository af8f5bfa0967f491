"""Real workers of Celery on a real broker, and an application to send them tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil
import redis
from celery import Celery

from tests.campaigns.harness import ROOT, database_url, eventually
from tests.redis_servers import started_url

APP = "tests.contrib.celery_app:app"
JOBS = "tests.contrib.celery_jobs"
#: How often a worker looks for messages whose visibility time-out is over; how long a dead one keeps others from it.
RESTORING = {"unacked_restore_interval": 0.1, "unacked_restore_throttle": 1, "unacked_mutex_expire": 1}


def broker(number: int = 7) -> str:
    """Return the URL of a database of its own on the embedded server."""
    return urlsplit(started_url())._replace(path=f"/{number}").geturl()


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker, and the broker that it takes its messages from."""

    process: subprocess.Popen[bytes]
    app: Celery
    broker: redis.Redis

    def children(self) -> set[int]:
        """Return the ids of the processes that run tasks."""
        with suppress(psutil.NoSuchProcess):
            return {child.pid for child in psutil.Process(self.process.pid).children()}
        return set()

    def waiting(self) -> int:
        """Return how many messages are in the queue or not yet acknowledged."""
        return int(self.broker.llen("celery")) + int(self.broker.hlen("unacked"))

    def rest(self) -> None:
        """Wait until there is nothing left to do."""
        eventually(lambda: not self.waiting(), "an empty queue")

    def kill(self) -> None:
        """Kill all its processes at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def working(
    url: str,
    *,
    processes: int = 2,
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Worker]:
    """Let a worker run until the block ends; ``options`` are those of the broker's transport."""
    command = [sys.executable, "-m", "celery", "-A", APP, "worker", "--loglevel=ERROR", "--without-gossip"]
    command += ["--without-mingle", "--without-heartbeat", "--pool=prefork", f"--concurrency={processes}"]
    transport = {**RESTORING, **(options or {})}
    variables = {
        **os.environ,
        "DATABASE_URL": database_url({}),
        "BROKER_URL": url,
        "BROKER_OPTIONS": json.dumps(transport),
        "CELERY_JOBS": JOBS,
        "PYTHONPATH": str(ROOT),
        **(environment or {}),
    }
    process = subprocess.Popen(command, cwd=ROOT, env=variables, start_new_session=True)
    app = Celery(broker=url, backend=url, set_as_current=False)
    worker = Worker(process=process, app=app, broker=redis.Redis.from_url(url))
    try:
        yield worker
    finally:
        worker.kill()
        app.close()
        worker.broker.close()


@contextmanager
def empty_broker(number: int) -> Iterator[str]:
    """Yield the URL of a broker that nothing waits in, and leave it so."""
    url = broker(number)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        try:
            yield url
        finally:
            client.flushdb()

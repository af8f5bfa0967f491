"""Where the jobs of the demo run: a Celery worker on a broker that comes along, else a process of their own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from demo_project.servers import ServerUnavailable, redis_url

_MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
_PATIENCE = 30.0
_PAUSE = 0.2
_FAULTY = {"DEMO_FAULTS": "1", "DEMO_LEASE_SECONDS": "1"}


@dataclass(frozen=True, slots=True)
class Order:
    """What there is to be an invoice of."""

    order_id: str
    user_id: str
    amount_cents: int


class Queue(Protocol):
    """Takes the job of an order, and sees to it that it is done."""

    def send(self, order: Order, *, fault: str = "") -> dict[str, Any]:
        """Return what the job has come to in the end."""


@contextmanager
def queue() -> Iterator[Queue]:
    """Yield a queue with a worker, which ends with the block."""
    try:
        url = redis_url()
    except ServerUnavailable:
        yield Processes()
        return
    with _celery(url) as started:
        yield started


class Processes:
    """A queue without a broker: each delivery is a process, and what dies is delivered again."""

    def send(self, order: Order, *, fault: str = "") -> dict[str, Any]:
        """Deliver until there is an answer. Raises TimeoutError."""
        deadline = time.monotonic() + _PATIENCE
        given = [order.order_id, order.user_id, str(order.amount_cents), f"--fault={fault}"]
        while time.monotonic() < deadline:
            command = [sys.executable, str(_MANAGE), "issue_invoice", *given]
            ended = subprocess.run(command, env={**os.environ, **_FAULTY}, capture_output=True, text=True, check=False)
            if ended.returncode == 0:
                answer: dict[str, Any] = json.loads(ended.stdout)
                return answer
            time.sleep(_PAUSE)  # the lease of the dead
        raise TimeoutError("The job was not done.")


class CeleryQueue:
    """A queue of Celery, with one worker."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def send(self, order: Order, *, fault: str = "") -> dict[str, Any]:
        """Send a message, and wait for its result."""
        given = (order.order_id, order.user_id, order.amount_cents)
        result = self._app.send_task("demo_project.tasks.issue_invoice", given, {"fault": fault})
        answer: dict[str, Any] = result.get(timeout=_PATIENCE)
        return answer


@contextmanager
def _celery(url: str) -> Iterator[CeleryQueue]:
    from celery import Celery

    name = f"demo-{secrets.token_hex(4)}"
    command = [sys.executable, "-m", "celery", "-A", "demo_project.celery", "worker", "--concurrency=1"]
    quiet = ["--loglevel=CRITICAL", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {**os.environ, **_FAULTY, "CELERY_BROKER_URL": url, "DEMO_QUEUE": name}
    environment["PYTHONPATH"] = os.pathsep.join([str(_MANAGE.parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [*command, *quiet],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    app = Celery("demo", broker=url, backend=url, set_as_current=False)
    app.conf.task_default_queue = name
    try:
        yield CeleryQueue(app)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        app.close()

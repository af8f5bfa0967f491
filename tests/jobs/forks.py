"""Workers to be killed or stopped: each call is made by a process of its own, forked from one that has started Django.

``python -m tests.jobs.forks`` reads calls as lines of JSON, and writes what has come of each, in any order.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from tests.campaigns.harness import ROOT, TIMEOUT, database_url, eventually

KILLED = "killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call: of which job, for which reference, and what to do at which step (``kill``, or a file to hold by)."""

    job: str
    reference: str
    step: str = ""
    hold: str = ""
    occurrence: int = 1


class Forks:
    """A process that forks a worker for each order."""

    def __enter__(self) -> Forks:
        environment = {
            **os.environ,
            "DATABASE_URL": database_url({}),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "tests.jobs.forks"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        self._waiting: dict[int, Future[str]] = {}
        self._numbers = iter(range(1 << 30))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *args: Any) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        assert self._process.stdout
        self._process.stdout.close()

    def start(self, order: Order) -> Future[str]:
        """Have a worker forked; the future is what it says, or ``killed``."""
        assert self._process.stdin
        number = next(self._numbers)
        future = self._waiting[number] = Future()
        facts = {"number": number, **{name: getattr(order, name) for name in Order.__slots__}}
        self._process.stdin.write(json.dumps(facts) + "\n")
        self._process.stdin.flush()
        return future

    def call(self, order: Order) -> str:
        """Have a worker forked, and return what it says."""
        return self.start(order).result(TIMEOUT)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            number, _, said = line.rstrip("\n").partition(" ")
            self._waiting.pop(int(number)).set_result(said)


@dataclass
class Failpoint:
    """What a forked worker does at one step."""

    order: Order
    seen: int = field(default=0)

    def reach(self, step: str) -> None:
        """Die, or wait until the file is gone, which says by its content who waits."""
        if step != self.order.step:
            return
        self.seen += 1
        if self.seen != self.order.occurrence:
            return
        if not self.order.hold:
            os.kill(os.getpid(), signal.SIGKILL)
        held = Path(self.order.hold)
        held.with_suffix(".new").write_text(str(os.getpid()))
        held.with_suffix(".new").rename(held)
        while held.exists():
            time.sleep(0.002)

    def around(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Put the step around a method."""

        @wraps(method)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.reach(f"before {name}")
            result = method(*args, **kwargs)
            self.reach(f"after {name}")
            return result

        return wrapped


def holder(hold: Path) -> int:
    """Return the process that waits."""
    eventually(hold.exists, f"{hold.name} waits")
    return int(hold.read_text())


def _work(order: Order) -> str:
    from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
    from tests.jobs import tasks
    from tests.models import Payment

    failpoint = Failpoint(order)
    for owner, method, name in (
        (DatabaseStore, "reserve", "reserve"),
        (DatabaseStore, "take_over", "reserve"),
        (type(Payment.objects), "create", "work"),
        (DatabaseStore, "complete", "complete"),
        (DatabaseStore, "write_steps", "write_steps"),
        (DatabaseTransaction, "__exit__", "commit"),
    ):
        setattr(owner, method, failpoint.around(getattr(owner, method), name))
    return tasks.call(order.job, order.reference)


def _fork(facts: dict[str, Any]) -> None:
    number = facts.pop("number")
    child = os.fork()
    if child == 0:
        try:
            said = json.dumps(_work(Order(**facts)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            said = f"{type(error).__name__}: {error}".replace("\n", " ")
        atexit._run_exitfuncs()  # as where a process ends by itself
        _say(number, said)
        os._exit(0)
    threading.Thread(target=_await, args=(number, child), daemon=False).start()


def _await(number: int, child: int) -> None:
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        _say(number, KILLED)


def _say(number: int, said: str) -> None:
    os.write(sys.stdout.fileno(), f"{number} {said}\n".encode())


if __name__ == "__main__":
    import django

    django.setup()
    import tests.jobs.tasks  # noqa: F401

    for line in sys.stdin:
        _fork(json.loads(line))

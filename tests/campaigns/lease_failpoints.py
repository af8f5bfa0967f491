"""Named steps of a request under a lease, at which its process kills itself (``X-Kill: after write``) or waits.

``X-Hold: after write`` waits there until the test lets go: a file named for the key is there for as long as that, and
holds the id of the process.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from django_idempotency.core.leases import Lease
from django_idempotency.core.steps import Steps
from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
from tests.campaigns import failpoints, views_leases
from tests.campaigns.harness import TIMEOUT, Answer, Server, eventually

HOLD = "X-Hold"
WRAPPED = (
    (DatabaseStore, "reserve", "reserve"),
    (views_leases, "pay", "call"),
    (views_leases.LeasedPaymentViewSet, "perform_create", "write"),
    (DatabaseStore, "complete", "complete"),
    (DatabaseTransaction, "__exit__", "commit"),
)
AROUND_THE_STEP = (
    "after reserve",
    "before begin",
    "after begin",
    "before call",
    "after call",
    "before result",
    "after result",
)
IN_THE_TRANSACTION = ("before write", "after write", "before complete")
AT_THE_COMMIT = ("after complete", "before commit")
AFTER_THE_COMMIT = ("after commit", "before response", "after response")
STEPS = ("before reserve", *AROUND_THE_STEP, *IN_THE_TRANSACTION, *AT_THE_COMMIT, *AFTER_THE_COMMIT)

_wanted = threading.local()


def reach(step: str) -> None:
    """Wait or die if the request at hand asks for it here."""
    held: Path | None = getattr(_wanted, "file", None)
    if held and _wanted.step == step:
        written = held.with_suffix(".new")
        written.write_text(str(os.getpid()))
        written.rename(held)
        while held.exists():
            time.sleep(0.002)
    failpoints.reach(step)


def install() -> None:
    """Put the steps around their methods."""
    for owner, method, name in WRAPPED:
        setattr(owner, method, _around(getattr(owner, method), lambda *args, name=name: name))
    DatabaseStore.write_steps = _around(DatabaseStore.write_steps, _write)  # type: ignore[method-assign]


def _write(store: DatabaseStore, lease: Lease, steps: Steps) -> str:
    """Return which end of a step is written down."""
    return "result" if all(step["is_done"] for step in json.loads(steps.encode())) else "begin"


def _around(method: Callable[..., Any], named: Callable[..., str]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        name = named(*args)
        reach(f"before {name}")
        result = method(*args, **kwargs)
        reach(f"after {name}")
        return result

    return wrapped


class LeaseFailpoints:
    """Middleware that reads the headers."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = failpoints.Failpoints(application)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        _wanted.step = environ.get("HTTP_X_HOLD", "")
        _wanted.file = Path(os.environ["HOLDS"], environ["HTTP_IDEMPOTENCY_KEY"].strip('"')) if _wanted.step else None
        return self._application(environ, start_response)


@dataclass(kw_only=True)
class HeldRequests:
    """Requests to one server, by their keys, each of which waits at a step of its own.

    ``folder`` is where the server says so, ``processes`` are the ids of those that wait.
    """

    server: Server
    pool: ThreadPoolExecutor
    folder: Path
    steps: dict[str, str]
    path: str = "/payouts/"

    def __post_init__(self) -> None:
        self._sent = {key: self.pool.submit(self.post, self.server, key, step) for key, step in self.steps.items()}
        self.processes = {self._process_of(key) for key in self.steps}

    def _process_of(self, key: str) -> int:
        file = self.folder / key
        eventually(file.exists, f"{self.steps[key]}, where {key} waits")
        return int(file.read_text())

    def post(self, server: Server, key: str, step: str = "") -> Answer:
        """Send the request of a key."""
        return server.post(self.path, {"amount": 3, "reference": key}, key=key, headers={HOLD: step})

    def retries(self, server: Server) -> dict[str, Answer]:
        """Send all requests again, at the same time."""
        return dict(zip(self.steps, self.pool.map(lambda key: self.post(server, key), self.steps), strict=True))

    def let_go(self) -> None:
        """Let the requests go on."""
        for key in self.steps:
            self.folder.joinpath(key).unlink()

    def answers(self) -> dict[str, Answer]:
        """Return what the requests have got in the end. Raises OSError or HTTPException if their process died."""
        return {key: sent.result(TIMEOUT) for key, sent in self._sent.items()}

    def kill(self) -> None:
        """Kill the processes."""
        for process in self.processes:
            os.kill(process, signal.SIGKILL)
        for sent in self._sent.values():
            assert isinstance(sent.exception(TIMEOUT), OSError | HTTPException)

"""A real server for the campaigns, its client, and the report of a campaign."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import urlopen

import psutil
from django.conf import settings
from django.db import connection

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0


def database_url(options: Mapping[str, str]) -> str:
    """Return the URL of the database that this test run has created, with other parameters."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    url = urlsplit(settings.DATABASE_URL)
    return url._replace(path=f"/{name}", query=urlencode({**dict(parse_qsl(url.query)), **options})).geturl()


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value of a condition that another process brings about."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.002)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response as the client got it; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"

    @property
    def problem(self) -> str:
        """The code of the problem that this tells, empty for a success."""
        return "" if self.status < 400 else json.loads(self.body).get("code", "")


# Where sessions outlive requests, the functions of the store are called.
KEPT = {"TEST_KEEPS_SESSIONS": "1"}


@dataclass(kw_only=True)
class Server:
    """The test app behind gunicorn, on a port of its own and the database of this test run.

    ``options`` are parameters of its database URL to put in place of those of this process, ``environment`` are
    variables besides its own; ``app`` is the WSGI application to serve.
    """

    token: str
    workers: int = 2
    threads: int = 4
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    app: str = "tests.campaigns.wsgi:application"

    def __enter__(self) -> Server:
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            self.port: int = listener.getsockname()[1]
            self._process = self._start(listener)
        try:
            self.is_up()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self, listener: socket.socket) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "gunicorn", "-c", str(Path(__file__).with_name("gunicorn_conf.py"))]
        command += ["--workers", str(self.workers), "--threads", str(self.threads)]
        command += ["--bind", f"fd://{listener.fileno()}", self.app]
        environment = {**os.environ, "DATABASE_URL": database_url(self.options), "PYTHONPATH": str(ROOT)}
        environment |= self.environment
        return subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[listener.fileno()])

    def _stop(self) -> None:
        family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def is_up(self) -> None:
        """Wait until the app answers: the port is open before the server runs."""
        assert self.post("/payments/").status == 400
        eventually(lambda: len(self.worker_ids()) == self.workers, "all workers")

    def worker_ids(self) -> set[int]:
        """Return the process ids of the workers that live."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._process.pid).children()
            return {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE}
        return set()

    @contextmanager
    def connected(self) -> Iterator[HTTPConnection]:
        """Open a connection."""
        client = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            client.connect()
            yield client
        finally:
            client.close()

    def post(self, path: str, body: Any = None, *, key: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request over a connection of its own. Raises OSError or HTTPException if the server dies meanwhile."""
        with self.connected() as client:
            return self.post_over(client, path, body, key=key, headers=headers)

    def post_over(
        self,
        client: HTTPConnection,
        path: str,
        body: Any = None,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request over an open connection."""
        sent = {"Authorization": f"Token {self.token}", "Content-Type": "application/json", "Connection": "close"}
        if key:
            sent["Idempotency-Key"] = f'"{key}"'
        client.request("POST", path, json.dumps(body or {}), {**sent, **(headers or {})})
        response = client.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=named, body=response.read())


class Bank:
    """The demo's bank in a process of its own, which keeps its ledger in a file."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger

    def __enter__(self) -> Bank:
        command = [sys.executable, "-m", "demo_project.bank", "--port", "0", "--ledger", str(self._ledger)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the bank does not start"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ledger(self) -> dict[str, Any]:
        """Return what the bank has been asked for and has done, in all and by key."""
        with urlopen(f"{self.url}/ledger", timeout=TIMEOUT) as answer:
            return json.load(answer)


@dataclass(kw_only=True)
class Report:
    """What a campaign did and found; IDEMPOTENCY_REPORT names the JSON file that keeps it, one member a campaign."""

    campaign: str
    seed: int | None = None
    command: str = field(default_factory=lambda: " ".join(["python -m pytest", *sys.argv[1:]]))
    database: str = field(default_factory=lambda: connection.vendor)
    counts: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __enter__(self) -> Report:
        self._started = time.monotonic()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = round(time.monotonic() - self._started, 1)
        if name := os.environ.get("IDEMPOTENCY_REPORT"):
            path = Path(name)
            kept = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps({**kept, self.campaign: asdict(self)}, indent=2) + "\n")

    def expect(self, holds: bool, violation: str) -> None:
        """Note a violation unless it holds; the campaign goes on, so that all are counted."""
        if not holds:
            self.violations.append(violation)

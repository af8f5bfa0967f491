"""The measured service: gunicorn on a database, and what both have used so far."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import psutil
import psycopg

_STARTUP_SECONDS = 30


class ServiceFailed(RuntimeError):
    """Gunicorn does not answer; its log says why."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Rows of effect, and CPU seconds of gunicorn and of PostgreSQL (None where it runs on another machine)."""

    payments: int
    service_cpu: float
    database_cpu: float | None


class Service:
    """Gunicorn at a local port. ``token`` is that of the user whose requests it answers."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], database: psycopg.Connection, token: str) -> None:
        self.port = port
        self.token = token
        self._process = process
        self._database = database
        self._postmaster = _postmaster(database)

    def usage(self) -> Usage:
        """Read what has been written and used since the start."""
        return Usage(
            payments=self._database.execute("SELECT count(*) FROM tests_payment").fetchone()[0],  # type: ignore[index]
            service_cpu=_cpu_seconds(psutil.Process(self._process.pid)),
            database_cpu=_cpu_seconds(self._postmaster) if self._postmaster else None,
        )

    def wait_until_ready(self) -> None:
        """Return when the first request is answered. Raises ServiceFailed."""
        deadline = time.monotonic() + _STARTUP_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                connection = self._connect()
                connection.request("GET", "/")
                connection.getresponse()
                return
            except OSError:
                time.sleep(0.1)
        raise ServiceFailed

    def post(self, path: str, body: str, key: str) -> int:
        """Send one payment; return the status."""
        connection = self._connect()
        headers = {
            "Authorization": f"Token {self.token}",
            "Content-Type": "application/json",
            "Connection": "close",
            "Idempotency-Key": f'"{key}"',
        }
        connection.request("POST", path, body, headers)
        return connection.getresponse().status

    def _connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=_STARTUP_SECONDS)


@contextmanager
def service(database_url: str, *, token: str, workers: int, threads: int, folder: Path) -> Iterator[Service]:
    """Start gunicorn on a port of its own and end it, whatever happens; its messages go to ``gunicorn.log``."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener, (folder / "gunicorn.log").open("ab") as log:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--config", "python:tests.benchmarks.gunicorn_settings"),
                *("--bind", f"fd://{listener.fileno()}", "--workers", str(workers), "--threads", str(threads)),
                "tests.benchmarks.wsgi",
            ],
            env={**os.environ, "DATABASE_URL": database_url},
            pass_fds=[listener.fileno()],
            stderr=log,
        )
    try:
        with psycopg.connect(database_url, autocommit=True) as database:
            started = Service(port, process, database, token)
            started.wait_until_ready()
            yield started
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def _postmaster(connection: psycopg.Connection) -> psutil.Process | None:
    """Return the parent of our backend, None where the process of that number is no such thing."""
    try:
        backend = psutil.Process(connection.info.backend_pid)
        return backend.parent() if "postgres" in backend.name() else None
    except psutil.NoSuchProcess:
        return None


def _cpu_seconds(root: psutil.Process) -> float:
    """Return user and system time of a process and its children, those that have ended included."""
    seconds = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += sum((times.user, times.system, times.children_user, times.children_system))
    return seconds

"""The demo behind a real server, and the bank beside it: started, awaited and always stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

HOST = "127.0.0.1"
PREFERRED_PORT = 8000
_PROJECT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60
_STOP_SECONDS = 10


class ServerFailed(RuntimeError):
    """The server did not start, or ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server: its address, its log and its master process."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def wait(self) -> None:
        """Wait until it ends, which it should not. Raises ServerFailed."""
        status = self.process.wait()
        raise ServerFailed(f"The server ended with status {status}. Its log: {self.log}")


def free_port() -> int:
    """Return the port 8000 if it is free, else any other."""
    return PREFERRED_PORT if is_free(PREFERRED_PORT) else any_port()


def is_free(port: int) -> bool:
    """Tell whether a port can be bound."""
    try:
        with closing(socket.create_server((HOST, port))):
            return True
    except OSError:
        return False


def any_port() -> int:
    """Return a port that is free."""
    with closing(socket.create_server((HOST, 0))) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(port: int, environment: Mapping[str, str], *, asgi: bool = False) -> Iterator[Server]:
    """Serve the demo, with these variables besides those of this process, until the block ends.

    By gunicorn, or by uvicorn if it is to be ASGI. Raises ServerFailed. The log is left behind where the block fails.
    """
    handle, name = tempfile.mkstemp(prefix="django-idempotency-demo-", suffix=".log")
    with os.fdopen(handle, "wb") as log:
        process = subprocess.Popen(
            # The working directory stays, since DATABASE_URL may name a file relative to it.
            [sys.executable, "-m", *(_uvicorn(port) if asgi else _gunicorn(port))],
            env={**os.environ, "PYTHONPATH": _python_path(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; we then stop the server
        )
    server = Server(url=f"http://{HOST}:{port}", log=Path(name), process=process)
    is_log_wanted = True
    try:
        _await_answer(server)
        yield server
        is_log_wanted = False
    except KeyboardInterrupt:
        is_log_wanted = False
        raise
    finally:
        _stop(process)
        if not is_log_wanted:
            server.log.unlink()


def _gunicorn(port: int) -> list[str]:
    return ["gunicorn", "-c", "python:demo_project.gunicorn", "-b", f"{HOST}:{port}"]


def _uvicorn(port: int) -> list[str]:
    workers = ["--workers", "2", "--timeout-graceful-shutdown", "2"]
    return ["uvicorn", "demo_project.asgi:application", "--host", HOST, "--port", str(port), *workers]


@contextmanager
def serving_bank() -> Iterator[str]:
    """Let a bank do business until the block ends, and yield its address. Raises ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="django-idempotency-bank-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo_project.bank", "--ledger", str(Path(folder, "ledger.sqlite3"))],
            env={**os.environ, "PYTHONPATH": _python_path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            if not url:
                raise ServerFailed("The bank does not start.")
            yield url
        finally:
            process.kill()
            process.communicate()


def _python_path() -> str:
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(_PROJECT), *([inherited] if inherited else [])])


def _await_answer(server: Server) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with httpx.Client(trust_env=False, verify=False) as client:
        while time.monotonic() < deadline and server.process.poll() is None:
            with suppress(httpx.TransportError):
                if client.get(server.url, timeout=5).is_success:
                    return
            time.sleep(0.05)
    raise ServerFailed(f"The server does not answer. Its log: {server.log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    finally:  # a second Ctrl-C, say
        # What is left of its session: a worker that sleeps, or all of it if it did not listen.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

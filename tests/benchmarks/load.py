"""The load: wrk, one thread, eight connections, the requests of ``requests.lua``."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

CONNECTIONS = 8
BODY = '{"reference": "invoice 2025-004217 of the wholesale department", "amount": 4200}'
_LONG_SECONDS = 3600
_SCRIPT = Path(__file__).with_name("requests.lua")


class Sent(TypedDict):
    """What wrk says of one run: requests answered, and failures (status above 399, socket errors, time-outs)."""

    requests: int
    seconds: float
    failures: int
    p50_ms: float
    p99_ms: float


class WrkMissing(RuntimeError):
    """The load generator is not installed."""


def find_wrk() -> str:
    """Return the path of wrk. Raises WrkMissing."""
    path = shutil.which("wrk")
    if path is None:
        raise WrkMissing("install wrk (Debian package wrk)")
    return path


def wrk_version() -> str:
    """Return what wrk calls itself."""
    output = subprocess.run([find_wrk(), "--version"], stdout=subprocess.PIPE, text=True).stdout
    return " ".join(output.split()[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Payments to a path, with keys if there is a prefix: fresh ones, or ``keys`` ones over and over."""

    port: int
    path: str
    token: str
    key_prefix: str = ""
    keys: int = 0

    def send(self, seconds: int) -> Sent:
        """Send for some seconds."""
        with self._wrk(seconds) as process:
            return _sent(process)

    def send_during(self, work: Callable[[], object]) -> Sent:
        """Send as long as some work takes."""
        with self._wrk(_LONG_SECONDS) as process:
            try:
                work()
                process.send_signal(signal.SIGINT)
                return _sent(process)
            finally:
                process.kill()

    def _wrk(self, seconds: int) -> subprocess.Popen[str]:
        options = ["--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s", f"--script={_SCRIPT}"]
        arguments = [self.path, self.token, BODY, self.key_prefix, str(self.keys)]
        command = [find_wrk(), *options, f"http://127.0.0.1:{self.port}", "--", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _sent(process: subprocess.Popen[str]) -> Sent:
    output = process.communicate()[0]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    sent: Sent = json.loads(output.splitlines()[-1])
    return sent

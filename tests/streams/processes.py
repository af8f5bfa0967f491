"""The commands in processes of their own, to be stopped, killed and set against each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tests.campaigns.harness import ROOT, database_url
from tests.streams.brokers import servers

TIMEOUT = 60.0


class Command:
    """``manage.py`` with the settings of the tests, on their database and broker."""

    def __init__(self, *arguments: str, topic: str = "", **environment: str) -> None:
        self._arguments = arguments
        self._environment: Mapping[str, str] = {
            **os.environ,
            "DATABASE_URL": database_url({}),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "KAFKA_BOOTSTRAP_SERVERS": servers(),
            "PYTHONPATH": str(ROOT),
            "TEST_TOPIC": topic,
            **environment,
        }

    def __enter__(self) -> Command:
        command = [sys.executable, "-m", "django", *self._arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait_for_line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(TIMEOUT)

    def end(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """Send a signal, and return what it prints as JSON before it ends."""
        self.process.send_signal(number)
        return self.result()

    def result(self) -> dict[str, Any]:
        """Wait for its end, which must be a good one; return what it prints as JSON."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0, err
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


def consumer(topic: str, *arguments: str, group: str = "Sums", **environment: str) -> Command:
    """Return ``idempotency_consume``, which ends where the topic does."""
    line = ("idempotency_consume", topic, "--group", group, "--until-caught-up", "--json", *arguments)
    return Command(*line, topic=topic, **environment)

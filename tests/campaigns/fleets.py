"""Relays and consumers as processes of their own, which are killed at any moment and started anew."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import IO, Any

from tests.campaigns.harness import ROOT, TIMEOUT, database_url

SETTINGS = "tests.campaigns.streaming.settings"


def environment(**variables: str) -> dict[str, str]:
    """Return what commands are run with: the database of this test run, and settings that name the broker."""
    common = {"DATABASE_URL": database_url({}), "DJANGO_SETTINGS_MODULE": SETTINGS, "PYTHONPATH": str(ROOT)}
    return {**os.environ, **common, **variables}


def run_command(*arguments: str, env: dict[str, str], patience: float = TIMEOUT) -> str:
    """Run a command to its end, which must be a good one; return what it has printed."""
    command = [sys.executable, "-m", "django", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said, told = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.terminate()
            said, told = process.communicate(timeout=TIMEOUT)
            raise AssertionError(f"It does not end: {said[-2000:]}{told[-4000:]}") from None
    assert process.returncode == 0, said + told
    return said


@dataclass(kw_only=True)
class Fleet:
    """Members by kind, each a command and how many of it there are. What they say is in ``log``."""

    commands: dict[str, Sequence[str]]
    sizes: dict[str, int]
    env: dict[str, str]
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    #: Members that ended by themselves, which none should.
    deserted: list[str] = field(default_factory=list)

    def __enter__(self) -> Fleet:
        self._closing, self._over = ExitStack(), Event()
        self._log: IO[bytes] = self._closing.enter_context(tempfile.NamedTemporaryFile(suffix=".log"))
        self._members: list[tuple[str, subprocess.Popen[bytes]]] = []
        for kind, size in self.sizes.items():
            self._members += [(kind, self._start(kind)) for _ in range(size)]
        self._watch = Thread(target=self._replace_deserters)
        self._watch.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._watch.join()
        # Not in order: where a group has lost members to SIGKILL and the rest leaves, the embedded broker lets nobody
        # join it any more.
        for _kind, process in self._members:
            process.kill()
            process.wait()
        try:
            if exc_type or self.deserted:
                print(self.log[-4000:])
        finally:
            self._closing.close()

    @property
    def log(self) -> str:
        """What all members have said so far."""
        return Path(self._log.name).read_text(errors="replace")

    def pids(self, kind: str) -> list[int]:
        """Return the process ids of a kind."""
        return [process.pid for each, process in self._members if each == kind]

    def _start(self, kind: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "django", *self.commands[kind]]
        return subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=self._log, stderr=self._log)

    def kill_one(self, kind: str) -> None:
        """Kill a member without a word, and start another one in its place."""
        index = self.chance.choice([index for index, (each, _) in enumerate(self._members) if each == kind])
        process = self._members[index][1]
        process.kill()
        process.wait()
        self.kills[kind] += 1
        self._members[index] = (kind, self._start(kind))

    def _replace_deserters(self) -> None:
        while not self._over.wait(0.1):
            for kind, process in list(self._members):
                status = process.poll()
                if status is not None and status != -signal.SIGKILL:
                    self.deserted.append(f"{kind} ended with {status}")
                    self._over.set()


def summary(fleet: Fleet) -> dict[str, Any]:
    """Return what a report tells of it."""
    return {"members": fleet.sizes, "kills": dict(fleet.kills)}

"""A step scheduler: scripts of several database sessions, in every order, as PostgreSQL's isolation tester does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from django.db import connection, connections

from tests.campaigns.sessions import PATIENCE

Script = Iterator[None]
_GLANCE = 0.001


def interleavings(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield every order in which scripts of so many steps can be taken, as the numbers of the scripts."""
    if not any(counts):
        yield ()
    for script, count in enumerate(counts):
        if count:
            for rest in interleavings([*counts[:script], count - 1, *counts[script + 1 :]]):
                yield (script, *rest)


class Session:
    """A thread with a database session of its own, which takes the steps of a script one by one."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.pid: int = self._pool.submit(_connect).result(PATIENCE)

    def begin(self, script: Script) -> None:
        """Take up a script."""
        self._script, self._has_ended, self.has_blocked = script, False, False
        self._step: Future[bool] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether its last step is under way."""
        return self._step is not None and not self._step.done()

    @property
    def has_ended(self) -> bool:
        """Whether the script has no more steps. Raises what the script raised."""
        if self._step and self._step.done():
            self._has_ended = self._step.result()
        return self._has_ended

    def step(self) -> None:
        """Start the next step."""
        if not self.has_ended:
            self._step = self._pool.submit(_take, self._script)

    def is_blocked(self) -> bool:
        """Tell whether the step under way waits for a lock that another session holds."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [self.pid])
            return bool(cursor.fetchone()[0])

    def settle(self) -> None:
        """Wait until the step under way has been taken, or can go no further."""
        deadline = time.monotonic() + PATIENCE
        while self._step is not None and wait([self._step], _GLANCE).not_done:
            if self.is_blocked():
                self.has_blocked = True
                return
            assert time.monotonic() < deadline, "a step takes too long"

    def close(self) -> None:
        """End the session."""
        self._pool.submit(connections.close_all).result(PATIENCE)
        self._pool.shutdown()


def _connect() -> int:
    connection.ensure_connection()
    pid: int = connection.connection.info.backend_pid
    return pid


def _take(script: Script) -> bool:
    """Take one step; tell whether that was the last."""
    try:
        next(script)
    except StopIteration:
        return True
    return False


@contextmanager
def sessions(count: int) -> Iterator[list[Session]]:
    """Open sessions for many runs."""
    opened = [Session() for _ in range(count)]
    try:
        yield opened
    finally:
        for session in opened:
            session.close()


def run(opened: Sequence[Session], scripts: Sequence[Callable[[], Script]], order: Sequence[int]) -> bool:
    """Run scripts in this order; tell whether one had to wait for another.

    Where a step is blocked, others go on; it ends once what it waits for is gone.
    """
    for session, script in zip(opened, scripts, strict=True):
        session.begin(script())
    for number in order:
        if not opened[number].is_busy:
            opened[number].step()
        for session in opened:
            session.settle()
    _finish(opened)
    return any(session.has_blocked for session in opened)


def _finish(taking: Sequence[Session]) -> None:
    """Take what is left, of whoever is not blocked."""
    deadline = time.monotonic() + PATIENCE
    while not all(session.has_ended for session in taking):
        assert time.monotonic() < deadline, "the sessions wait for each other"
        for session in taking:
            if not session.is_busy:
                session.step()
            session.settle()

"""Sessions of the test database besides that of the test, and other options for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any, Protocol, TypeVar

from django.db import connection, connections

T = TypeVar("T")
PATIENCE = 30.0


class Start(Protocol):
    """Runs a call in a thread, hence in a database session, of its own."""

    def __call__(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...


@contextmanager
def other_sessions() -> Iterator[Start]:
    """Yield what starts calls in other sessions; wait for all of them in the end."""
    with ThreadPoolExecutor(32) as pool:
        yield lambda call, /, *args, **kwargs: pool.submit(_in_a_session, call, *args, **kwargs)


def _in_a_session(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    try:
        return call(*args, **kwargs)
    finally:
        connections.close_all()


def seen_from_outside(call: Callable[[], T]) -> T:
    """Return what another session sees."""
    with other_sessions() as start:
        return start(call).result(PATIENCE)


class Gate:
    """Holds whoever comes until it is opened; tells a test that somebody has come."""

    def __init__(self) -> None:
        self._reached, self._opened = Event(), Event()

    def __call__(self) -> None:
        self._reached.set()
        assert self._opened.wait(PATIENCE), "nobody opened the gate"

    def wait_until_reached(self) -> None:
        """Wait until somebody is held."""
        assert self._reached.wait(PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        """Let everybody pass, now and later."""
        self._opened.set()


def advisory_locks(*, granted: bool = True) -> int:
    """Count what sessions hold on this database, or wait for (PostgreSQL)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database "
            "WHERE locktype = 'advisory' AND d.datname = current_database() AND granted = %s",
            [granted],
        )
        return int(cursor.fetchone()[0])


@contextmanager
def connection_options(**options: Any) -> Iterator[None]:
    """Let all sessions connect with these OPTIONS; not within a transaction, as this one reconnects too.

    A pool keeps sessions itself, so that Django must not.
    """
    connection.close()
    settings = connection.settings_dict
    original, kept_for = settings["OPTIONS"], settings["CONN_MAX_AGE"]
    settings["OPTIONS"] = {**original, **options}
    settings["CONN_MAX_AGE"] = 0 if options.get("pool") else kept_for
    try:
        yield
    finally:
        connection.close()
        if options.get("pool"):
            connection.close_pool()  # type: ignore[attr-defined]
        settings["OPTIONS"], settings["CONN_MAX_AGE"] = original, kept_for


@contextmanager
def sessions_kept(*, kept: bool = True) -> Iterator[None]:
    """Let sessions outlive requests, or not."""
    settings = connection.settings_dict
    original, settings["CONN_MAX_AGE"] = settings["CONN_MAX_AGE"], None if kept else 0
    try:
        yield
    finally:
        settings["CONN_MAX_AGE"] = original


@contextmanager
def atomic_requests(value: bool) -> Iterator[None]:
    """Set ATOMIC_REQUESTS, in the dict that Django's handler and all connections share."""
    settings = connection.settings_dict
    original = settings["ATOMIC_REQUESTS"]
    settings["ATOMIC_REQUESTS"] = value
    try:
        yield
    finally:
        settings["ATOMIC_REQUESTS"] = original

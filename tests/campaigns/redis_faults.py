"""A Redis of one's own to break in every way, and a service whose statements about records are counted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.test import override_settings

from tests.campaigns.harness import TIMEOUT, eventually
from tests.redis_servers import cache, started_url


@contextmanager
def patiently_cached(**store: Any) -> Iterator[redis.Redis]:
    """Let the default store have Redis in front, which a busy machine does not make time out; yield a client."""
    # The pools of django-redis go by URL, and keep the time-outs they were made with.
    url = urlsplit(started_url())._replace(path="/1").geturl()
    timeouts = {"SOCKET_TIMEOUT": TIMEOUT, "SOCKET_CONNECT_TIMEOUT": TIMEOUT}
    caches = {"default": cache(url, **timeouts)}
    stores = {"default": {"BACKEND": "django_idempotency.stores.cached.CachedDatabaseStore", "OPTIONS": store}}
    client = redis.Redis.from_url(url, socket_timeout=TIMEOUT)
    with override_settings(CACHES=caches, IDEMPOTENCY_STORES=stores), client:
        client.flushdb()
        yield client
        client.flushdb()


@lru_cache
def executable() -> str:
    """Return the path of the server program that runs already; skip where that is not on this machine."""
    path = str(redis.Redis.from_url(started_url()).info("server").get("executable", ""))
    if not Path(path).is_file():
        pytest.skip("REDIS_URL names a server elsewhere; this test breaks one of its own")
    return path


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class RedisServer:
    """A server with no memory beyond its process: each start is an empty one, at the same address."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url, socket_timeout=5)
        self.evicted = 0
        self._options = options

    def __enter__(self) -> RedisServer:
        self._folder = tempfile.TemporaryDirectory(prefix="django-idempotency-redis-")
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self.client.close()
        self._folder.cleanup()

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [executable(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
        command += ["--dir", self._folder.name, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(self._answers, "an answer of Redis")

    def kill(self) -> None:
        """Kill it, and with it all that it knew."""
        self._process.kill()
        self._process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it be there and not answer."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

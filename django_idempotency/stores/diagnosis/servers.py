"""What a Redis server says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from django.core.cache import caches

from django_idempotency.stores.diagnosis.findings import Finding, clocks, guarded


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """The state of a server; sizes in bytes, times in seconds.

    ``persistence`` names what is written to disk, None where the server does not tell.
    """

    product: str
    role: str
    replicas: int
    maxmemory_policy: str
    maxmemory: int
    used_memory: int
    persistence: tuple[str, ...] | None
    clock_difference: float
    latency: float

    @property
    def evicts(self) -> bool:
        """Whether it forgets keys when memory runs out: under volatile-*, too, since outcomes have a time to live."""
        return self.maxmemory_policy != "noeviction"


def look(alias: str) -> RedisFacts:
    """Ask the server of a django-redis cache, or a node of its cluster.

    Raises ImproperlyConfigured, RedisError, RedisClusterException, OSError.
    """
    client = _server(caches[alias].client.get_client(write=True))  # type: ignore[attr-defined]
    client.ping()
    before = time.time()
    seconds, microseconds = client.time()
    after = time.time()
    info = client.info()
    product = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    return RedisFacts(
        product=f"{product} {info.get('valkey_version') or info['redis_version']}",
        role=info["role"],
        replicas=info.get("connected_slaves", 0),
        maxmemory_policy=info["maxmemory_policy"],
        maxmemory=info["maxmemory"],
        used_memory=info["used_memory"],
        persistence=_persistence(client, info),
        clock_difference=seconds + microseconds / 1e6 - (before + after) / 2,
        latency=after - before,
    )


def _server(client: Any) -> Any:
    """Return the client of one server."""
    return client.get_redis_connection(client.get_default_node()) if hasattr(client, "get_default_node") else client


def _persistence(client: Any, info: dict[str, Any]) -> tuple[str, ...] | None:
    from redis.exceptions import ResponseError

    kinds = ["appendonly"] if info.get("aof_enabled") else []
    with suppress(ResponseError):  # managed servers often refuse CONFIG
        if client.config_get("save").get("save"):
            kinds.append("save")
        return tuple(kinds)
    return tuple(kinds) or None


def examine_server(alias: str, *, decides: bool) -> Iterator[Finding]:
    """Look at the Redis of a cache; it ``decides`` where no database does, and without it nothing works."""
    yield from guarded(
        f"cache {alias}",
        "Redis does not answer",
        _examine(alias, decides=decides),
        level="error" if decides else "warning",
        advice="Requests get 503 until it does." if decides else "Until it does, the database answers everything.",
    )


def _examine(alias: str, *, decides: bool) -> Iterator[Finding]:
    subject, facts = f"cache {alias}", look(alias)
    yield Finding(subject=subject, text=_described(facts), facts=asdict(facts))
    if facts.role != "master":
        yield Finding(
            subject=subject,
            level="error" if decides else "warning",
            text="The server is a replica, which takes no writes.",
            advice="Point LOCATION at the primary, or use django_redis.client.SentinelClient.",
        )
    yield clocks(subject, facts.clock_difference, facts.latency / 2)


def _described(facts: RedisFacts) -> str:
    persistence = "unknown" if facts.persistence is None else " and ".join(facts.persistence) or "none"
    limit = f"{facts.maxmemory / 2**20:.0f} MiB" if facts.maxmemory else "no limit"
    return (
        f"{facts.product}, {facts.role} with {facts.replicas} replicas, {facts.maxmemory_policy}, "
        f"persistence {persistence}, {facts.used_memory / 2**20:.1f} MiB used (limit: {limit}), "
        f"answers in {facts.latency * 1000:.2f} ms"
    )

"""A Redis for tests, and caches that name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as cache_result
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from demo_project.servers import ServerUnavailable, redis_url

JSON = "django_redis.serializers.json.JSONSerializer"


def cache(url: str, **options: Any) -> dict[str, Any]:
    """Return an entry of CACHES as the documentation recommends it; an option that is None is left out."""
    recommended = {"SOCKET_TIMEOUT": 0.1, "SOCKET_CONNECT_TIMEOUT": 0.1, "SERIALIZER": JSON}
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": url,
        "OPTIONS": {name: value for name, value in {**recommended, **options}.items() if value is not None},
    }


def started_url() -> str:
    """Return the URL of one server for all tests; skip where there is none."""
    try:
        return _started_url()
    except ServerUnavailable as error:
        pytest.skip(str(error))


@cache_result
def _started_url() -> str:
    """Start it once, and not for the processes of other tests, which would find it in their environment."""
    return redis_url()


@contextmanager
def cached_by(url: str, **store: Any) -> Iterator[Any]:
    """Let the default store be a CachedDatabaseStore on this server; yield its client."""
    backend = {"BACKEND": "django_idempotency.stores.cached.CachedDatabaseStore", "OPTIONS": store}
    with override_settings(CACHES={"default": cache(url)}, IDEMPOTENCY_STORES={"default": backend}):
        yield caches["default"].client.get_client(write=True)  # type: ignore[attr-defined]

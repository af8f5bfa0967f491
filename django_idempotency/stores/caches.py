"""Checks of the cache alias that a store uses, and, for a deployment, of the server behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from django.core import checks
from django.core.cache import InvalidCacheBackendError, caches
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_idempotency.conf import settings
from django_idempotency.stores import get_store
from django_idempotency.stores.base import Store
from django_idempotency.stores.connections import RedisConnection
from django_idempotency.stores.diagnosis.servers import RedisFacts, look

Messages = Iterator[checks.CheckMessage]

_BACKEND = "django_redis.cache.RedisCache"
_LONGEST_TIMEOUT = 1.0


def check_cache(alias: str) -> Messages:
    """Check the entry of CACHES without asking its server."""
    if alias not in caches.settings:
        yield checks.Error(f"The store's cache alias {alias!r} is not in CACHES.", id="idempotency.E031")
        return
    wrong = _wrong_backend(alias)
    if wrong:
        yield checks.Error(
            f"CACHES[{alias!r}] {wrong}: the store needs Redis, through django-redis.",
            hint=f"pip install django-idempotency[redis], and set BACKEND to {_BACKEND!r}.",
            id="idempotency.E032",
        )
        return
    yield from _check_serializer(alias)
    yield from _check_timeouts(alias)


def _wrong_backend(alias: str) -> str:
    """Say what is wrong with the backend, "" for nothing."""
    try:
        from django_redis.cache import RedisCache

        backend = caches[alias]
    except (ImportError, InvalidCacheBackendError):
        return "cannot be imported"
    if not isinstance(backend, RedisCache):
        return f"is a {type(backend).__name__}"
    try:
        _client(alias)
    except ImproperlyConfigured as error:
        return f"makes no client ({type(error.__cause__).__name__})"
    return ""


def _client(alias: str) -> Any:
    """Return the client of redis-py, None for that of a cluster which is down. Raises ImproperlyConfigured."""
    from redis.exceptions import RedisClusterException, RedisError

    with suppress(RedisClusterException, RedisError, OSError):
        return RedisConnection(alias).client


def _check_serializer(alias: str) -> Messages:
    from django_redis.serializers.pickle import PickleSerializer

    configured = caches.settings[alias].get("OPTIONS", {}).get("SERIALIZER")
    if configured is None or issubclass(import_string(configured), PickleSerializer):
        yield checks.Warning(
            f"CACHES[{alias!r}] unpickles what it reads: whoever can write to that Redis can run code here.",
            hint="Records are bytes and never unpickled, other values are. Give the store an alias of its own, with "
            "OPTIONS['SERIALIZER'] set to 'django_redis.serializers.json.JSONSerializer'.",
            id="idempotency.W033",
        )


def _check_timeouts(alias: str) -> Messages:
    # Pools are shared by all aliases of one URL, whose options are those of the first: so what holds is asked for.
    pool = getattr(_client(alias), "connection_pool", None)
    kwargs = getattr(pool, "connection_kwargs", {})
    values = {name: kwargs.get(name.lower()) for name in ("SOCKET_CONNECT_TIMEOUT", "SOCKET_TIMEOUT")}
    wrong = [name for name, value in values.items() if not value or value > _LONGEST_TIMEOUT]
    if pool and wrong:
        yield checks.Warning(
            f"CACHES[{alias!r}] waits for Redis for longer than {_LONGEST_TIMEOUT:g} s ({', '.join(wrong)}).",
            hint="A Redis that hangs makes requests hang. Set both in OPTIONS, to 0.1 or 0.25 s; aliases with the same "
            "URL share the time-outs of the first that is used.",
            id="idempotency.W034",
        )


def check_deployment(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Ask the servers behind the caches of all stores: for ``check --deploy`` alone."""
    return [message for alias in settings.STORES for message in _check_server(alias)]


def redis_of(store: Store) -> RedisConnection | None:
    """Return the Redis that a store uses, None where it uses none."""
    redis = getattr(store, "redis", None)
    return redis if isinstance(redis, RedisConnection) else None


def _check_server(alias: str) -> Messages:
    try:
        store = get_store(alias)
        redis = redis_of(store)
    except (ImproperlyConfigured, TypeError):
        return  # which check_stores reports
    if redis is None or any(message.is_serious() for message in check_cache(redis.alias)):
        return
    from redis.exceptions import RedisClusterException, RedisError

    try:
        facts = look(redis.alias)
    except (RedisError, RedisClusterException, OSError) as error:
        yield checks.Warning(
            f"The Redis of the store {alias!r} does not answer: {type(error).__name__}.",
            hint="Check it from where the application runs.",
            id="idempotency.W037",
        )
    else:
        yield from _check_memory(alias, facts) if store.alias is None else ()


def _check_memory(alias: str, facts: RedisFacts) -> Iterable[checks.CheckMessage]:
    """Check that a Redis that alone knows what was done does not forget it."""
    if facts.evicts:
        yield checks.Error(
            f"The Redis of the store {alias!r} evicts records when memory runs out ({facts.maxmemory_policy}).",
            hint="Set maxmemory-policy to noeviction; volatile-* is no better, for each outcome has a time to live. "
            "Or use CachedDatabaseStore, where an eviction costs speed alone.",
            id="idempotency.E035",
        )
    if facts.persistence == ():
        yield checks.Warning(
            f"The Redis of the store {alias!r} writes nothing to disk: a restart forgets what was done.",
            hint="Set appendonly to yes. Or use CachedDatabaseStore, where a restart costs speed alone.",
            id="idempotency.W036",
        )

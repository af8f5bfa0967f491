"""Redis through django-redis: scripts of one key each, and a breaker for the time when the server is gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

logger = logging.getLogger("django_idempotency")

# What django-redis and redis-py say of wrong options, each in its way.
_WRONG_OPTIONS = (ImproperlyConfigured, ValueError, TypeError, AssertionError, AttributeError, ImportError)


class RedisUnavailable(Exception):
    """Redis did not answer, or not as it should."""


class RedisRefused(RedisUnavailable):
    """Redis did answer, but not as it should."""


class Breaker:
    """Stops asking a server that is gone: after some failures in a row, for a pause; then one request tries again.

    Only a connection that fails or a time-out counts. Whatever the server answers shows that it is there.
    """

    def __init__(self, *, failures: int, pause: float) -> None:
        self._limit, self._pause = failures, pause
        self._failures, self._closed_again = 0, 0.0

    def lets_pass(self) -> bool:
        """Tell whether the server may be asked; after a pause the first who does so keeps the others waiting."""
        if self._failures < self._limit:
            return True
        now = time.monotonic()
        if now < self._closed_again:
            return False
        self._closed_again = now + self._pause
        return True

    def failed(self) -> None:
        """Count a failure."""
        self._failures += 1
        self._closed_again = time.monotonic() + self._pause

    def succeeded(self) -> None:
        """Forget failures."""
        self._failures = 0


class RedisConnection:
    """A connection of django-redis, by its alias in CACHES. ``failures`` counts what went wrong since the start.

    Every call raises RedisUnavailable, and ImproperlyConfigured where the entry of CACHES makes no client.
    """

    def __init__(self, alias: str, *, breaker_failures: int = 3, breaker_pause: float = 5.0) -> None:
        self.alias = alias
        self.failures = 0
        self._pause = breaker_pause
        self._breaker = Breaker(failures=breaker_failures, pause=breaker_pause)
        self._scripts: dict[str, Any] = {}
        self._next_warnings: dict[str, float] = {}

    @cached_property
    def client(self) -> Any:
        """The client of redis-py. Raises ImproperlyConfigured; that of a cluster asks its servers at once."""
        try:
            from django_redis import get_redis_connection
        except ImportError as error:
            raise ImproperlyConfigured(
                "This store needs django-redis: pip install django-idempotency[redis]."
            ) from error
        try:
            client = get_redis_connection(self.alias, write=True)
            _try_options(client)
        except NotImplementedError as error:
            raise ImproperlyConfigured(f"CACHES[{self.alias!r}] must use django_redis.cache.RedisCache.") from error
        except _WRONG_OPTIONS as error:  # whose text may hold a password
            raise ImproperlyConfigured(
                f"CACHES[{self.alias!r}] makes no client ({type(error).__name__}): see its LOCATION and OPTIONS."
            ) from error
        return client

    @cached_property
    def _failures(self) -> Any:
        from redis import exceptions

        return exceptions.RedisError, exceptions.RedisClusterException, OSError

    @cached_property
    def _absences(self) -> Any:
        from redis import exceptions

        return exceptions.ConnectionError, exceptions.TimeoutError, exceptions.RedisClusterException, OSError

    def run(self, script: str, key: str, *arguments: Any, beside: Sequence[str] = ()) -> Any:
        """Run a script on a key, and others of the same hash slot, in one round trip."""
        return self._guard(lambda: self._registered(script)(keys=[key, *beside], args=arguments))

    def _registered(self, script: str) -> Any:
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self.client.register_script(script)
        return registered

    def set(self, key: str, value: bytes, milliseconds: int) -> None:
        """Set a key for some time."""
        self._guard(lambda: self.client.set(key, value, px=milliseconds))

    def delete(self, key: str) -> None:
        """Delete a key."""
        self._guard(lambda: self.client.delete(key))

    def _guard(self, call: Callable[[], T]) -> T:
        if not self._breaker.lets_pass():
            raise RedisUnavailable("Redis is left alone for a moment.")
        try:
            result = call()
        except ImproperlyConfigured:
            raise
        except self._failures as error:
            self.failures += 1
            is_absent = isinstance(error, self._absences)
            (self._breaker.failed if is_absent else self._breaker.succeeded)()
            self._warn(type(error).__name__)
            raise (RedisUnavailable if is_absent else RedisRefused) from error
        self._breaker.succeeded()
        return result

    def _warn(self, kind: str) -> None:
        """Log a failure, those of one kind once a pause: a server that is out of memory fails for each request."""
        now = time.monotonic()
        if now >= self._next_warnings.get(kind, now):
            self._next_warnings[kind] = now + self._pause
            logger.warning("Redis failed: %s (failure %d)", kind, self.failures)


def _try_options(client: Any) -> None:
    """Make a connection and let it be, for only that knows which options there are."""
    if pool := getattr(client, "connection_pool", None):
        pool.connection_class(**pool.connection_kwargs)

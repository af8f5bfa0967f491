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


class RedisUnavailable(Exception):
    """Redis did not answer, or not as it should."""


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
    """A connection of django-redis, by its alias in CACHES. ``failures`` counts what went wrong since the start."""

    def __init__(self, alias: str, *, breaker_failures: int = 3, breaker_pause: float = 5.0) -> None:
        self.alias = alias
        self.failures = 0
        self._breaker = Breaker(failures=breaker_failures, pause=breaker_pause)
        self._scripts: dict[str, Any] = {}

    @cached_property
    def client(self) -> Any:
        """The client of redis-py. Raises ImproperlyConfigured."""
        try:
            from django_redis import get_redis_connection
        except ImportError as error:
            raise ImproperlyConfigured(
                "This store needs django-redis: pip install django-idempotency[redis]."
            ) from error
        try:
            return get_redis_connection(self.alias, write=True)
        except NotImplementedError as error:
            raise ImproperlyConfigured(f"CACHES[{self.alias!r}] must use django_redis.cache.RedisCache.") from error

    @cached_property
    def _errors(self) -> Any:
        from redis import exceptions

        return exceptions

    def run(self, script: str, key: str, *arguments: Any, beside: Sequence[str] = ()) -> Any:
        """Run a script on a key, and others of the same hash slot, in one round trip. Raises RedisUnavailable."""
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self.client.register_script(script)
        return self._guard(lambda: registered(keys=[key, *beside], args=arguments))

    def set(self, key: str, value: bytes, milliseconds: int) -> None:
        """Set a key for some time. Raises RedisUnavailable."""
        client = self.client
        self._guard(lambda: client.set(key, value, px=milliseconds))

    def delete(self, key: str) -> None:
        """Delete a key. Raises RedisUnavailable."""
        client = self.client
        self._guard(lambda: client.delete(key))

    def _guard(self, call: Callable[[], T]) -> T:
        if not self._breaker.lets_pass():
            raise RedisUnavailable("Redis is left alone for a moment.")
        try:
            result = call()
        except (self._errors.RedisError, OSError) as error:
            self.failures += 1
            is_gone = isinstance(error, self._errors.ConnectionError | self._errors.TimeoutError | OSError)
            (self._breaker.failed if is_gone else self._breaker.succeeded)()
            logger.warning("Redis failed: %s", type(error).__name__)
            raise RedisUnavailable from error
        self._breaker.succeeded()
        return result

"""The connection to Redis: what failures cost, and when the server is left alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_idempotency.stores.connections import Breaker, RedisConnection, RedisUnavailable
from tests.campaigns.redis_faults import RedisServer, free_port
from tests.redis_servers import cache

ECHO = "return ARGV[1]"
PAUSE = 0.3


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server, override_settings(CACHES={"default": cache(server.url)}):
        yield server
        caches["default"].close()


@pytest.fixture
def connection(server: RedisServer) -> RedisConnection:
    return RedisConnection("default", breaker_failures=2, breaker_pause=PAUSE)


def fails(connection: RedisConnection, call: str = "set") -> float:
    """Make a call that must fail; return the seconds it took."""
    started = time.monotonic()
    arguments = ("k", b"v", 1000) if call == "set" else (ECHO, "k", b"v")
    with pytest.raises(RedisUnavailable):
        getattr(connection, call)(*arguments)
    return time.monotonic() - started


def wait_for_the_pause() -> None:
    deadline = time.monotonic() + PAUSE
    while time.monotonic() <= deadline:
        time.sleep(0.01)


def test_scripts_are_loaded_where_the_server_has_forgotten_them(connection: RedisConnection) -> None:
    assert connection.run(ECHO, "k", b"one") == b"one"
    connection.client.script_flush()
    assert connection.run(ECHO, "k", b"two") == b"two"
    assert connection.failures == 0


def test_the_breaker_opens_when_the_server_is_gone_and_closes_when_it_is_back(
    server: RedisServer, connection: RedisConnection
) -> None:
    connection.set("k", b"v", 1000)
    server.kill()
    for _ in range(5):
        fails(connection)
    assert connection.failures == 2  # after that nobody asked
    server.start()
    fails(connection)
    wait_for_the_pause()
    connection.set("k", b"v", 1000)
    server.kill()
    fails(connection)
    server.start()
    connection.set("k", b"v", 1000)  # one failure does not open it


def test_a_server_that_does_not_answer_costs_its_time_out_and_then_nothing(
    server: RedisServer, connection: RedisConnection
) -> None:
    connection.run(ECHO, "k", b"v")
    with server.stopped():
        waited = [fails(connection, "run") for _ in range(2)]
        spared = [fails(connection, "run") for _ in range(20)]
    assert all(0.05 < seconds < 1 for seconds in waited)
    assert max(spared) < 0.05
    wait_for_the_pause()
    assert connection.run(ECHO, "k", b"own answer") == b"own answer"


def test_what_the_server_answers_never_opens_the_breaker(server: RedisServer, connection: RedisConnection) -> None:
    server.client.config_set("maxmemory", 1)
    for _ in range(5):
        fails(connection)
    assert connection.failures == 5
    server.client.config_set("maxmemory", 0)
    connection.set("k", b"v", 1000)


def test_an_error_of_a_server_that_is_back_closes_the_breaker(server: RedisServer, connection: RedisConnection) -> None:
    server.kill()
    for _ in range(3):
        fails(connection)
    server.start()
    server.client.config_set("maxmemory", 1)
    wait_for_the_pause()
    fails(connection)
    fails(connection)
    assert connection.failures == 2 + 2  # the server was asked both times


def test_after_the_pause_one_request_tries_and_the_others_keep_away() -> None:
    breaker = Breaker(failures=1, pause=PAUSE)
    assert breaker.lets_pass()
    breaker.failed()
    assert not breaker.lets_pass()
    wait_for_the_pause()
    passed: list[bool] = []
    threads = [threading.Thread(target=lambda: passed.append(breaker.lets_pass())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed.count(True) == 1
    breaker.succeeded()
    assert all(breaker.lets_pass() for _ in range(8))


def test_a_failure_is_logged_without_keys_and_values(
    server: RedisServer, connection: RedisConnection, caplog: pytest.LogCaptureFixture
) -> None:
    server.client.lpush("a key", b"a list")
    with caplog.at_level(logging.DEBUG, "django_idempotency"), pytest.raises(RedisUnavailable):
        connection.run("return redis.call('GET', KEYS[1])", "a key", b"a value")
    assert [record.getMessage() for record in caplog.records] == ["Redis failed: ResponseError (failure 1)"]
    assert caplog.records[0].levelname == "WARNING"
    assert caplog.records[0].exc_info is None


def test_failures_of_one_kind_are_logged_once_a_pause(
    server: RedisServer, connection: RedisConnection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "django_idempotency"):
        server.client.config_set("maxmemory", 1)
        started = time.monotonic()
        for _ in range(20):
            fails(connection)
        pauses = 1 + (time.monotonic() - started) // PAUSE
        assert 1 <= len(caplog.records) <= pauses
        caplog.clear()
        server.client.replicaof("127.0.0.1", free_port())
        fails(connection)
        wait_for_the_pause()
        fails(connection)
    assert [record.getMessage() for record in caplog.records] == [
        "Redis failed: ReadOnlyError (failure 21)",
        "Redis failed: ReadOnlyError (failure 22)",
    ]


@pytest.mark.parametrize(
    "backend", ["django.core.cache.backends.locmem.LocMemCache", "django.core.cache.backends.redis.RedisCache"]
)
def test_another_backend_of_caches_is_a_configuration_error(backend: str) -> None:
    configured: dict[str, Any] = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1"}}
    with override_settings(CACHES=configured), pytest.raises(ImproperlyConfigured, match="django_redis"):
        RedisConnection("default").delete("k")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("127.0.0.1", {}),
        ("redis://:hunter2@127.0.0.1:hunter2/0", {}),
        ("redis://127.0.0.1:1/21", {"SOCKET_TIMEOUT": "1"}),
        ("redis://127.0.0.1:1/22", {"CLIENT_CLASS": "nowhere.Client"}),
        ("redis://127.0.0.1:1/23", {"CONNECTION_POOL_KWARGS": {"patience": 1}}),
    ],
)
def test_options_that_make_no_client_are_a_configuration_error_that_names_the_cache(
    url: str, options: dict[str, Any]
) -> None:
    with (
        override_settings(CACHES={"default": cache(url, **options)}),
        pytest.raises(ImproperlyConfigured, match=r"^CACHES\['default'\] makes no client") as caught,
    ):
        RedisConnection("default").set("k", b"v", 1000)
    assert "hunter2" not in str(caught.value)

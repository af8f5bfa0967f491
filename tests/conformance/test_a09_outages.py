"""A9: views whose policy says that they run unprotected while the store cannot be reached, which is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.core.cache import cache, caches
from rest_framework.request import Request
from rest_framework.response import Response

from tests.callers import Caller, new_key
from tests.campaigns.redis_faults import RedisServer
from tests.conformance.views_responses import created, scripted
from tests.models import Payment
from tests.redis_servers import cache as redis_cache

pytestmark = pytest.mark.urls("tests.conformance.urls_outages")
REDIS_STORE = {"default": {"BACKEND": "django_idempotency.stores.redis.RedisStore"}}
LOCAL = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@pytest.fixture
def server(settings: Any) -> Iterator[RedisServer]:
    """Start the Redis of a store that has nothing else; throttles count elsewhere."""
    with RedisServer() as server:
        settings.CACHES = {"default": LOCAL, "redis": redis_cache(server.url)}
        settings.IDEMPOTENCY_STORES = {"default": {**REDIS_STORE["default"], "OPTIONS": {"cache": "redis"}}}
        cache.clear()
        yield server
        caches["redis"].close()


@pytest.mark.parametrize("path", ["/mixin/", "/decorated/", "/async/"])
def test_a9_114_a_view_that_is_to_run_all_the_same_does_so_and_says_so_aloud(
    alice: Caller, server: RedisServer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = new_key()
    with scripted():
        first, again = alice.post(path, key=key), alice.post(path, key=key)
        server.kill()
        with caplog.at_level(logging.ERROR, "django_idempotency"):
            down = alice.post(path, key=key)
    assert (first.has_header("Idempotency-Status"), again["Idempotent-Replayed"]) == (False, "true")
    assert (down.status_code, down["Idempotency-Status"]) == (201, "unprotected")
    assert not down.has_header("Idempotent-Replayed")
    assert Payment.objects.count() == 2
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "runs unprotected" in record.getMessage()
    assert key not in caplog.text


def test_a9_114_without_such_a_policy_nothing_runs(alice: Caller, server: RedisServer) -> None:
    server.kill()
    with scripted() as script:
        down = alice.post("/closed/", key=new_key())
    assert (down.status_code, down.json()["code"], script.calls) == (503, "store-unavailable", 0)


def test_a9_114_what_has_run_is_not_run_again_when_the_store_goes_meanwhile(alice: Caller, server: RedisServer) -> None:
    def dying(request: Request) -> Response:
        server.kill()
        return created(request)

    with scripted(dying) as script:
        answer = alice.post("/mixin/", key=new_key())
    assert (answer.status_code, answer.json()["code"], script.calls) == (503, "store-unavailable", 1)


def test_a9_114_throttles_that_replays_are_spared_count_unprotected_runs(alice: Caller, server: RedisServer) -> None:
    server.kill()
    with scripted() as script:
        statuses = [alice.post("/throttled/", key=new_key()).status_code for _ in range(3)]
    assert (statuses, script.calls) == ([201, 201, 429], 2)


@pytest.mark.parametrize("foreign", ["a string", "a field"])
def test_a9_115_a_record_that_cannot_be_read_is_no_outage(alice: Caller, server: RedisServer, foreign: str) -> None:
    key, client = new_key(), redis.Redis.from_url(server.url)
    with scripted() as script:
        assert alice.post("/mixin/", key=key).status_code == 201
        (name,) = client.keys("*")
        if foreign == "a string":
            client.set(name, b"junk")
        else:
            client.hset(name, "status", "archived")
        refused = alice.post("/mixin/", key=key)
    client.close()
    assert (refused.status_code, refused.json()["code"], script.calls) == (503, "store-unavailable", 1)

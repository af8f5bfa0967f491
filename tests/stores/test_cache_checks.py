"""Checks of the cache that a store uses: of its settings always, of its server for a deployment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core import checks
from django.core.cache import caches
from django.test import override_settings
from django_redis.serializers.pickle import PickleSerializer

from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.stores.caches import check_deployment
from django_idempotency.stores.redis import RedisStore
from tests.campaigns.redis_faults import RedisServer
from tests.redis_servers import cache

NOWHERE = "redis://127.0.0.1:1/0"
STORES = {
    name: {"default": {"BACKEND": f"django_idempotency.stores.{name}"}}
    for name in ("redis.RedisStore", "cached.CachedDatabaseStore", "database.DatabaseStore")
}
ALONE, CACHED = STORES["redis.RedisStore"], STORES["cached.CachedDatabaseStore"]


class OwnPickles(PickleSerializer):
    """What a project may have made of it."""


def ids(messages: list[checks.CheckMessage]) -> list[str]:
    return [message.id or "" for message in messages]


def checked(url: str = NOWHERE, **options: Any) -> list[str]:
    """Return what is wrong with a cache as the documentation recommends it, but for these options."""
    with override_settings(CACHES={"default": cache(url, **options)}):
        found = ids(CachedDatabaseStore().check())
        assert ids(RedisStore().check()) == [*found, "idempotency.W030"]
    return found


def test_what_the_documentation_recommends_is_clean() -> None:
    assert checked() == []


def test_an_alias_that_is_not_there_is_an_error() -> None:
    (error,) = CachedDatabaseStore(cache="elsewhere").check()
    assert (error.id, "'elsewhere'" in error.msg) == ("idempotency.E031", True)
    assert ids(RedisStore(cache="elsewhere").check()) == ["idempotency.E031", "idempotency.W030"]


@pytest.mark.parametrize(
    ("backend", "wrong"),
    [
        ("django.core.cache.backends.locmem.LocMemCache", "is a LocMemCache"),
        ("django.core.cache.backends.dummy.DummyCache", "is a DummyCache"),
        ("django.core.cache.backends.filebased.FileBasedCache", "is a FileBasedCache"),
        ("django.core.cache.backends.db.DatabaseCache", "is a DatabaseCache"),
        ("django.core.cache.backends.redis.RedisCache", "is a RedisCache"),
        ("nowhere.Cache", "cannot be imported"),
    ],
)
def test_a_cache_that_is_not_of_django_redis_is_an_error(backend: str, wrong: str) -> None:
    with override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1/0"}}):
        (error,) = CachedDatabaseStore().check()
        assert check_deployment() == []
    assert (error.id, wrong in error.msg) == ("idempotency.E032", True)
    assert "django_redis.cache.RedisCache" in error.hint


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (NOWHERE, {"CLIENT_CLASS": "django_redis.client.ShardClient"}),
        (NOWHERE, {"SOCKET_TIMEOUT": "1"}),
        ("127.0.0.1", {}),
        ("", {}),
        (f"{NOWHERE}?patience=1", {}),
    ],
)
def test_options_that_make_no_client_are_an_error_and_no_traceback(url: str, options: dict[str, Any]) -> None:
    with override_settings(CACHES={"default": cache(url, **options)}, IDEMPOTENCY_STORES=CACHED):
        (error,) = checks.run_checks(tags=["idempotency"], include_deployment_checks=True)
    assert (error.id, "makes no client" in error.msg) == ("idempotency.E032", True)


@pytest.mark.parametrize("serializer", ["django_redis.serializers.pickle.PickleSerializer", f"{__name__}.OwnPickles"])
def test_pickles_are_warned_of(serializer: str) -> None:
    assert checked(SERIALIZER=serializer) == ["idempotency.W033"]


def test_pickles_are_what_django_redis_does_unless_told_otherwise() -> None:
    assert checked(SERIALIZER=None) == ["idempotency.W033"]


@pytest.mark.parametrize("name", ["SOCKET_TIMEOUT", "SOCKET_CONNECT_TIMEOUT"])
@pytest.mark.parametrize("value", [None, 1.5])
def test_a_wait_that_is_long_or_endless_is_warned_of(name: str, value: float | None) -> None:
    url = f"redis://127.0.0.1:1/{2 if value else 3}"  # pools go by URL
    with override_settings(CACHES={"default": cache(f"{url}?{name}", **{name: value})}):
        (warning,) = CachedDatabaseStore().check()
    assert (warning.id, f"({name})" in warning.msg) == ("idempotency.W034", True)


def test_time_outs_in_the_url_count() -> None:
    url = f"{NOWHERE}?socket_timeout=0.2&socket_connect_timeout=0.2"
    assert checked(url, SOCKET_TIMEOUT=None, SOCKET_CONNECT_TIMEOUT=None) == []


def test_another_alias_of_the_same_url_may_have_set_longer_ones() -> None:
    url = "redis://127.0.0.1:1/4"
    both = {"default": cache(url), "other": cache(url, SOCKET_TIMEOUT=30)}
    with override_settings(CACHES=both):
        caches["other"].client.get_client(write=True)  # type: ignore[attr-defined]
        assert ids(CachedDatabaseStore().check()) == ["idempotency.W034"]


@pytest.fixture(scope="module")
def own() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(own: RedisServer) -> Iterator[RedisServer]:
    own.client.config_set("maxmemory-policy", "noeviction")
    own.client.config_set("appendonly", "no")
    own.client.config_set("save", "3600 1")
    yield own
    own.client.config_set("save", "")


def deployed(url: str, stores: dict[str, Any]) -> list[checks.CheckMessage]:
    with override_settings(CACHES={"default": cache(url, SOCKET_TIMEOUT=5)}, IDEMPOTENCY_STORES=stores):
        return check_deployment()


@pytest.mark.parametrize("stores", STORES.values(), ids=STORES)
def test_a_server_that_forgets_nothing_is_clean(server: RedisServer, stores: dict[str, Any]) -> None:
    assert deployed(server.url, stores) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"])
def test_a9_111_an_eviction_is_an_error_where_redis_decides(server: RedisServer, policy: str) -> None:
    server.client.config_set("maxmemory-policy", policy)
    (error,) = deployed(server.url, ALONE)
    assert (error.id, isinstance(error, checks.Error)) == ("idempotency.E035", True)
    assert policy in error.msg
    assert deployed(server.url, CACHED) == []


def test_a9_111_a_server_without_persistence_is_warned_of_where_redis_decides(server: RedisServer) -> None:
    server.client.config_set("save", "")
    assert ids(deployed(server.url, ALONE)) == ["idempotency.W036"]
    assert deployed(server.url, CACHED) == []
    server.client.config_set("appendonly", "yes")
    assert deployed(server.url, ALONE) == []


def as_user(server: RedisServer, name: str, *denied: str) -> str:
    """Return the URL of a user who may do all but this."""
    server.client.acl_setuser(
        name, enabled=True, passwords=["+hunter2"], categories=["+@all"], commands=denied, keys="*"
    )
    return urlsplit(server.url)._replace(netloc=f"{name}:hunter2@127.0.0.1:{server.port}").geturl()


def test_persistence_that_the_server_does_not_tell_is_not_warned_of(server: RedisServer) -> None:
    server.client.config_set("save", "")
    assert deployed(as_user(server, "managed", "-config"), ALONE) == []


@pytest.mark.parametrize("stores", [ALONE, CACHED], ids=["alone", "cached"])
def test_a_server_that_does_not_let_us_in_is_warned_of_without_the_password(
    server: RedisServer, stores: dict[str, Any]
) -> None:
    url = as_user(server, "locked-out", "-info")
    (warning,) = deployed(url, stores)
    assert (warning.id, "NoPermission" in warning.msg) == ("idempotency.W037", True)
    assert "hunter2" not in f"{warning.msg}{warning.hint}"


def test_a_server_that_is_gone_is_warned_of_and_only_for_a_deployment() -> None:
    with override_settings(CACHES={"default": cache(NOWHERE)}, IDEMPOTENCY_STORES=CACHED):
        found = ids(checks.run_checks(tags=["idempotency"], include_deployment_checks=True))
        usual = ids(checks.run_checks(tags=["idempotency"]))
    assert [*usual, "idempotency.W037"] == found
    assert "idempotency.W037" not in usual


def test_a_server_that_hangs_is_warned_of_and_checks_without_deploy_do_not_ask_it(server: RedisServer) -> None:
    hanging = {"default": cache(f"{server.url}?health_check_interval=0", SOCKET_TIMEOUT=0.2)}
    with server.stopped(), override_settings(CACHES=hanging, IDEMPOTENCY_STORES=CACHED):
        assert ids(check_deployment()) == ["idempotency.W037"]
        assert "idempotency.W037" not in ids(checks.run_checks(tags=["idempotency"]))


def test_a_store_that_cannot_be_made_has_no_server() -> None:
    assert deployed(NOWHERE, {"default": {"BACKEND": "nowhere.Store"}}) == []


def test_without_django_redis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django_redis.cache", None)
    (error,) = CachedDatabaseStore().check()
    assert (error.id, "pip install django-idempotency[redis]" in error.hint) == ("idempotency.E032", True)

"""The stores with Redis keep the contract of all stores in a cluster, and on the oldest Redis that they know."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings
from redis.cluster import ClusterNode, RedisCluster

from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.stores.base import Store
from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.stores.caches import check_deployment
from django_idempotency.stores.diagnosis.servers import examine_server
from django_idempotency.stores.redis import RedisStore
from django_idempotency.testing import StoreContract, make_operation
from tests.campaigns.redis_faults import free_port
from tests.stores import test_redis_contract
from tests.stores.clusters import cluster_cache, started_cluster, started_debian_redis
from tests.stores.redis_sights import is_record, pay

SERVERS = {"a cluster": started_cluster, "redis of debian": started_debian_redis}


def client() -> Any:
    return caches["default"].client.get_client(write=True)  # type: ignore[attr-defined]


def flush(client: Any) -> None:
    for node in client.get_primaries() if isinstance(client, RedisCluster) else [None]:
        client.flushdb(**({"target_nodes": node} if node else {}))


@pytest.fixture(params=SERVERS)
def _server(request: pytest.FixtureRequest) -> Iterator[None]:
    with override_settings(CACHES={"default": SERVERS[request.param]()}):
        yield
        flush(client())


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with override_settings(CACHES={"default": started_cluster()}):
        yield client()
        flush(client())


@pytest.mark.usefixtures("_server")
@pytest.mark.django_db(transaction=True)
class TestCachedDatabaseStore(StoreContract):
    def make_store(self) -> Store:
        return CachedDatabaseStore()


@pytest.mark.usefixtures("_server")
class TestRedisStore(test_redis_contract.TestRedisStore):
    def make_store(self) -> Store:
        return RedisStore()

    def test_a_purge_deletes_expired_records_in_batches(self) -> None:
        """Redis forgets by itself; KEYS would ask one node of the cluster."""
        store, expired, live = self.make_store(), make_operation(), make_operation()
        self.keep(store, expired, ttl=timedelta(0))
        self.keep(store, live)
        assert list(store.purge(batch_size=2)) == []
        names = [f"idempotency:record:{operation.key.digest.hex()}" for operation in (expired, live)]
        assert [client().exists(name) for name in names] == [0, 1]


@pytest.mark.django_db(transaction=True)
def test_outcomes_are_replayed_from_every_node(cluster: RedisCluster) -> None:
    store, operations = CachedDatabaseStore(), [make_operation() for _ in range(30)]
    for operation in operations:
        pay(store, operation)
    assert all(store.recall(operation) for operation in operations)
    assert store.redis.failures == 0
    assert all(cluster.dbsize(target_nodes=node) for node in cluster.get_primaries())


@pytest.mark.django_db(transaction=True)
def test_a_slot_that_moves_costs_a_copy_and_no_failure(cluster: RedisCluster) -> None:
    store, operation = CachedDatabaseStore(), make_operation()
    pay(store, operation)
    home, name = next((node, name) for node in cluster.get_primaries() for name in cluster.keys("*", target_nodes=node))
    elsewhere = next(node for node in cluster.get_primaries() if node != home)
    slot = cluster.keyslot(name)
    cluster.delete(name)
    move(cluster, slot, elsewhere)
    try:
        assert pay(store, operation).replayed
        assert is_record(cluster.get(name))
        assert cluster.dbsize(target_nodes=elsewhere) == 1
        assert store.redis.failures == 0
    finally:
        cluster.delete(name)
        move(cluster, slot, home)


def move(cluster: RedisCluster, slot: int, node: ClusterNode) -> None:
    """Give an empty slot to another node, which this client has yet to find out."""
    name = cluster.cluster_myid(node)
    for each in cluster.get_primaries():
        cluster.execute_command("CLUSTER SETSLOT", slot, "NODE", name, target_nodes=each)


@pytest.mark.usefixtures("cluster")
def test_the_checks_ask_a_node() -> None:
    with override_settings(IDEMPOTENCY_STORES={"default": {"BACKEND": "django_idempotency.stores.redis.RedisStore"}}):
        assert [message.id for message in check_deployment()] == ["idempotency.W036"]  # it writes nothing to disk
        (facts, clock) = examine_server("default", decides=True)
    assert "master" in facts.text
    assert clock.level == "ok"


@pytest.fixture
def _no_cluster() -> Iterator[None]:
    """A cluster of which no node answers: redis-py says so before the first command, and with an error of its own."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    with override_settings(CACHES={"default": cluster_cache(url)}):
        yield


@pytest.mark.usefixtures("_no_cluster")
@pytest.mark.django_db(transaction=True)
def test_without_a_cluster_the_database_answers() -> None:
    store, operation = CachedDatabaseStore(), make_operation()
    first, again = (pay(store, operation) for _ in range(2))
    assert first.answer
    assert again.replayed
    assert store.redis.failures


@pytest.mark.usefixtures("_no_cluster")
def test_without_a_cluster_only_the_checks_of_a_deployment_warn() -> None:
    store = {"default": {"BACKEND": "django_idempotency.stores.cached.CachedDatabaseStore"}}
    with override_settings(IDEMPOTENCY_STORES=store):
        assert CachedDatabaseStore().check() == []
        assert [message.id for message in check_deployment()] == ["idempotency.W037"]


@pytest.mark.usefixtures("_no_cluster")
def test_without_a_cluster_redis_store_is_unavailable() -> None:
    store = RedisStore()
    with pytest.raises(StoreUnavailable), store.transaction():
        store.claim(make_operation())

"""The stores with Redis keep the contract of all stores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.test import override_settings

from django_idempotency.stores.base import Store
from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.stores.redis import RedisStore
from django_idempotency.testing import StoreContract, make_operation
from tests.redis_servers import cache, started_url


@pytest.fixture(autouse=True)
def _redis() -> Iterator[None]:
    with override_settings(CACHES={"default": cache(started_url())}):
        yield
        caches["default"].client.get_client(write=True).flushdb()  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
class TestCachedDatabaseStore(StoreContract):
    def make_store(self) -> Store:
        return CachedDatabaseStore()


class TestRedisStore(StoreContract):
    def make_store(self) -> Store:
        return RedisStore()

    def test_a_purge_deletes_expired_records_in_batches(self) -> None:
        """Redis forgets by itself."""
        store, expired, live = self.make_store(), make_operation(), make_operation()
        self.keep(store, expired, ttl=timedelta(0))
        self.keep(store, live)
        assert list(store.purge(batch_size=2)) == []
        keys = caches["default"].client.get_client(write=True).keys("*")  # type: ignore[attr-defined]
        assert [key.decode().rpartition(":")[2] for key in keys] == [live.key.digest.hex()]

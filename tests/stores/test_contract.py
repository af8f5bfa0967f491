"""Every store keeps one contract."""

from __future__ import annotations

import pytest

from django_idempotency.stores.base import Store
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.memory import MemoryStore
from django_idempotency.testing import StoreContract


@pytest.mark.django_db(transaction=True)
class TestDatabaseStore(StoreContract):
    def make_store(self) -> Store:
        return DatabaseStore()


class TestMemoryStore(StoreContract):
    def make_store(self) -> Store:
        return MemoryStore()

"""The store in memory, beyond the contract of all stores."""

from __future__ import annotations

import pytest

from django_idempotency.core.records import Claim
from django_idempotency.stores.memory import MemoryStore
from django_idempotency.testing import make_operation


def test_a_claim_without_a_transaction_is_refused_and_holds_nothing() -> None:
    store, operation = MemoryStore(), make_operation()
    with pytest.raises(RuntimeError, match="open transaction"):
        store.claim(operation)
    with store.transaction():
        assert isinstance(store.claim(operation), Claim)

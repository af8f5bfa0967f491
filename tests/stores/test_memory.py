"""The store in memory, beyond the contract of all stores."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.records import Claim, Operation
from django_idempotency.exceptions import ClaimLost, LeaseLost
from django_idempotency.stores.memory import MemoryStore
from django_idempotency.testing import CREATED, DAY, make_operation


def test_a_claim_without_a_transaction_is_refused_and_holds_nothing() -> None:
    store, operation = MemoryStore(), make_operation()
    with pytest.raises(RuntimeError, match="open transaction"):
        store.claim(operation)
    with store.transaction():
        assert isinstance(store.claim(operation), Claim)


def completed(store: MemoryStore, claim: Claim, meanwhile: Callable[[], object]) -> None:
    with store.transaction():
        store.complete(claim, CREATED, ttl=DAY)
        meanwhile()


def reserved(store: MemoryStore, operation: Operation, lease: timedelta = DAY) -> Lease | Held:
    return store.reserve(operation, lease=lease, ttl=DAY)


def test_a_lease_that_is_lost_before_the_commit_keeps_nothing_and_says_so() -> None:
    store, operation = MemoryStore(), make_operation()
    zombie = reserved(store, operation, timedelta(0))
    held = reserved(store, operation)
    assert isinstance(zombie, Lease)
    assert isinstance(held, Held)
    with pytest.raises(LeaseLost):
        completed(store, zombie, lambda: store.take_over(operation, held, lease=DAY))
    found = reserved(store, operation)
    assert isinstance(found, Held)
    assert (found.status, found.attempt) == ("in_progress", 2)


def test_a_claim_that_meets_a_lease_at_its_commit_keeps_nothing_and_says_so() -> None:
    store, operation = MemoryStore(), make_operation()
    with pytest.raises(ClaimLost):
        completed(store, Claim(operation=operation), lambda: reserved(store, operation))
    found = reserved(store, operation)
    assert isinstance(found, Held)
    assert (found.status, found.record) == ("in_progress", None)


def test_what_one_transaction_completes_is_kept_together_or_not_at_all() -> None:
    store, operation, other = MemoryStore(), make_operation(), make_operation()

    def rival() -> None:
        store.complete(Claim(operation=other), CREATED, ttl=DAY)
        reserved(store, other)

    with pytest.raises(ClaimLost):
        completed(store, Claim(operation=operation), rival)
    assert store.recall(operation) is None

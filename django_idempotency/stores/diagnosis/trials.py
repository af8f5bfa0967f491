"""Trials: what the engine asks of a store, done for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from statistics import median
from time import perf_counter
from uuid import uuid4

from django_idempotency.conf import settings
from django_idempotency.core.fingerprints import content_digest
from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.leases import Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation, Record
from django_idempotency.stores import get_store
from django_idempotency.stores.base import Store
from django_idempotency.stores.caches import redis_of
from django_idempotency.stores.diagnosis.findings import Finding, guarded

_MINUTE = timedelta(minutes=1)
_OUTCOME = Outcome(status=204, headers=(), body=b"")
_TIMES = 5


class RollbackIgnored(Exception):
    """A record has outlived its transaction."""


class LeaseNotHeld(Exception):
    """A lease was not granted, or lost at once, on a key that nobody else knows."""


def examine_store(alias: str) -> Iterator[Finding]:
    """Try a store: a claim that is completed and rolled back, and a lease that is renewed and released."""
    subject = f"store {alias}"
    advice = "See the findings about its servers and the checks below."
    yield from guarded(subject, "The store cannot be used", _examine(subject, alias), advice=advice)


def _examine(subject: str, alias: str) -> Iterator[Finding]:
    store = get_store(alias)
    failures = _redis_failures(store)
    advice = f"Requests get 503 until the store {alias!r} works: see the findings about its servers below."
    for what, attempt in (("claim, complete, roll back", _complete), ("reserve, renew, release", _lease)):
        yield from guarded(subject, f"{what} failed", _try(subject, what, store, attempt), advice=advice)
    if store.alias and _redis_failures(store) > failures:
        yield Finding(
            subject=subject,
            level="warning",
            text="Redis took no part: the database answered everything by itself.",
            advice="See the findings about Redis. If there is none, its user may not be allowed to run scripts.",
        )


def _redis_failures(store: Store) -> int:
    redis = redis_of(store)
    return redis.failures if redis else 0


def _try(subject: str, what: str, store: Store, attempt: Callable[[Store, Operation], None]) -> Iterator[Finding]:
    operation, durations = _operation(), []
    for _ in range(1 + _TIMES):  # the first one connects and prepares
        started = perf_counter()
        attempt(store, operation)
        durations.append(perf_counter() - started)
    milliseconds = round(median(durations[1:]) * 1000, 2)
    text = f"{type(store).__name__}: {what} in {milliseconds} ms"
    yield Finding(subject=subject, text=text, facts={"milliseconds": milliseconds})


def _complete(store: Store, operation: Operation) -> None:
    """Do what a request under a transaction claim does. Raises RollbackIgnored, and whatever the store does."""
    recalled = store.recall(operation)
    with store.transaction() as transaction:
        claimed = recalled or store.claim(operation)
        if isinstance(claimed, Record):
            raise RollbackIgnored
        store.complete(claimed, _OUTCOME, ttl=_MINUTE)
        transaction.rollback()


def _lease(store: Store, operation: Operation) -> None:
    """Do what a request under a lease does that gives up. Raises LeaseNotHeld, and whatever the store does."""
    lease = store.reserve(operation, lease=_MINUTE, ttl=_MINUTE)
    if not isinstance(lease, Lease):
        raise LeaseNotHeld
    try:
        if not store.renew(lease, lease=_MINUTE):
            raise LeaseNotHeld
    finally:
        store.release(lease, unknown=False)


def _operation() -> Operation:
    """Return an operation that no request can name, for its scope is none of a principal."""
    key = IdempotencyKey(value=str(uuid4()), scope=("idempotency_doctor",), operation="idempotency_doctor")
    return Operation(key=key, content_digest=content_digest([""]), keyring=settings.keyring)

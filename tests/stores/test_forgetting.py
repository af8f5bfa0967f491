"""What Redis knows of a record goes when the record was erased or changed by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import override_settings
from redis import Redis

from django_idempotency.core.fingerprints import Keyring
from django_idempotency.core.leases import Lease
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import OperationInProgress, OutcomeNotReplayable
from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.models import Record as Row
from django_idempotency.stores.resolution import Decision, Resolver
from django_idempotency.stores.sightings import Sighting, find
from django_idempotency.testing import CREATED, DAY, make_operation
from tests.campaigns.redis_faults import free_port
from tests.redis_servers import cached_by
from tests.stores.redis_sights import is_mark, is_record, pay, value

pytestmark = pytest.mark.django_db(transaction=True)
SECRETS = {"IDEMPOTENCY_SECRETS": ["a secret"]}  # that of make_operation()
decision = Decision(actor="user:ops", reason="the bank says so", force=True)


def seen(operation: Operation) -> Sighting:
    return find("default", digest=operation.key.digest.hex())


@override_settings(**SECRETS)
def test_an_erased_body_is_not_replayed_from_redis(redis: Redis) -> None:
    store, operation = CachedDatabaseStore(), make_operation()
    pay(store, operation)
    pay(store, make_operation(key="of somebody else"))
    Row.objects.filter(digest=operation.key.digest).update(response_body=None, response_headers=[])
    assert store.forget(operation.key.digest)
    assert is_record(value(redis))  # that of somebody else
    with pytest.raises(OutcomeNotReplayable):
        pay(store, operation)


def test_a_copy_under_an_older_secret_is_forgotten_too(redis: Redis) -> None:
    store, operation = CachedDatabaseStore(), make_operation()
    for secrets in (["older"], ["newer", "older"]):
        pay(store, replace(operation, keyring=Keyring.of(secrets)))
    assert len(redis.keys("*")) == 2
    with override_settings(IDEMPOTENCY_SECRETS=["newer", "older"]):
        assert store.forget(operation.key.digest)
    assert redis.keys("*") == []


def test_who_erases_is_told_where_redis_does_not_answer() -> None:
    with cached_by(f"redis://127.0.0.1:{free_port()}/0"):
        assert not CachedDatabaseStore().forget(make_operation().key.digest)


def test_the_database_alone_has_no_copies() -> None:
    assert DatabaseStore().forget(make_operation().key.digest)


@override_settings(**SECRETS)
@pytest.mark.parametrize("verb", ["release", "done", "not done"])
def test_what_an_operator_decides_is_known_at_once_after_the_commit(redis: Redis, verb: str) -> None:
    """A mark says that the operation is in flight, which it is not any more."""
    store, operation = CachedDatabaseStore(in_flight=timedelta(hours=1)), make_operation()
    assert store.recall(operation) is None
    assert isinstance(store.reserve(operation, lease=DAY, ttl=DAY), Lease)
    resolver, sight = Resolver(store=store), seen(operation)
    with transaction.atomic():
        if verb == "release":
            resolver.release(sight, decision)
        elif verb == "done":
            resolver.resolve_done(sight, decision, CREATED, ttl=DAY)
        else:
            resolver.resolve_not_done(sight, decision)
        assert is_mark(value(redis))
        with pytest.raises(OperationInProgress):
            store.recall(operation)
    assert value(redis) is None

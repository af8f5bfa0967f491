"""Redis in front of the database is told what was committed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from redis import Redis
from rest_framework.response import Response

from django_idempotency.core.attempts import Attempt
from django_idempotency.core.execution import execute
from django_idempotency.core.outcomes import Outcome
from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.stores.models import Record as Row
from django_idempotency.testing import CREATED, DAY, make_operation
from tests.callers import Caller, new_key
from tests.campaigns.sessions import Gate, other_sessions
from tests.conformance.views_databases import OrphanPaymentViewSet, moments
from tests.conformance.views_responses import created, elsewhere, impatient, in_flight, scripted
from tests.records import rows
from tests.stores.redis_sights import KINDS, RECORDS, is_mark, is_record, pay, value, without_sql_of_records

pytestmark = pytest.mark.urls("tests.conformance.urls_redis")


def fail_once() -> Callable[[Any], Response]:
    """Return an ending that fails the first time."""
    statuses = iter([503])

    def ending(request: Any) -> Response:
        return created(request) if (status := next(statuses, None)) is None else Response(status=status)

    return ending


@KINDS
def test_a_failed_view_frees_its_key_in_redis_at_once(alice: Caller, redis: Redis, path: str) -> None:
    key = new_key()
    with scripted(fail_once()) as script:
        failed = alice.post(path, key=key)
        assert value(redis) is None
        retry = elsewhere(lambda: alice.post(path, key=key))
    assert (failed.status_code, retry.status_code, script.calls) == (503, 201, 2)


@KINDS
def test_an_exception_frees_its_key_in_redis_at_once(alice: Caller, redis: Redis, path: str) -> None:
    key = new_key()

    def broken(request: Any) -> Response:
        raise ArithmeticError

    with scripted(broken):
        assert alice.post(path, key=key).status_code == 500
        assert value(redis) is None
    with scripted():
        assert elsewhere(lambda: alice.post(path, key=key)).status_code == 201


@KINDS
def test_a_failed_view_also_takes_back_the_mark_of_a_duplicate(alice: Caller, redis: Redis, path: str) -> None:
    key = new_key()
    with in_flight(alice, path, key=key, ending=lambda request: Response(status=503)) as flight:
        redis.flushall()  # as if the view had outlasted its own mark
        with impatient():
            assert alice.post(path, key=key).status_code == 409
        assert is_mark(value(redis))
        flight.land()
        assert flight.response.result().status_code == 503
    with scripted():
        assert alice.post(path, key=key).status_code == 201


def between_statement_and_commit(alice: Caller, redis: Redis, path: str) -> tuple[Any, bytes | None, int]:
    """Hold a request before its COMMIT; return its answer, and what others saw then in Redis and in the table."""
    gate = Gate()
    moments.once_at("after complete", gate)
    with scripted(), other_sessions() as start:
        answer = start(alice.post, path, key=new_key())
        gate.wait_until_reached()
        seen = value(redis), Row.objects.filter(status="completed").count()
        gate.open()
        return (answer.result(), *seen)


@KINDS
def test_nothing_is_written_to_redis_before_the_commit(alice: Caller, redis: Redis, path: str, settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "tests.conformance.views_redis.WatchedCachedStore"}}
    answer, seen, completed = between_statement_and_commit(alice, redis, path)
    assert answer.status_code == 201
    assert completed == 0
    assert is_mark(seen)
    assert is_record(value(redis))


@pytest.mark.parametrize(
    "store",
    ["django_idempotency.stores.cached.CachedDatabaseStore", "tests.conformance.views_redis.WatchedCachedStore"],
)
def test_a7_85_a_commit_that_fails_writes_nothing_to_redis(
    alice: Caller, redis: Redis, settings: Any, store: str
) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": store}}
    key = new_key()
    moments.once_at("orphan", OrphanPaymentViewSet.leave_an_orphan)
    failed = alice.post("/orphans/", {"amount": 3}, key=key)
    assert (failed.status_code, value(redis), rows()) == (500, None, (0, 0))
    retry = alice.post("/orphans/", {"amount": 3}, key=key)
    assert (retry.status_code, "Idempotent-Replayed" in retry, rows()) == (201, False, (1, 1))


@pytest.mark.django_db
@KINDS
def test_within_the_transaction_of_a_testcase_redis_is_told_nothing(redis: Redis, path: str) -> None:
    caller, key = Caller("carol"), new_key()
    with scripted() as script:
        first = caller.post(path, key=key)
        assert value(redis) is None
        again = [caller.post(path, key=key) for _ in range(2)]
        assert value(redis) is None
    assert {answer.content for answer in again} == {first.content}
    assert {answer["Idempotent-Replayed"] for answer in again} == {"true"}
    assert script.calls == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_undone", [False, True])
def test_a_transaction_around_it_decides_whether_redis_is_told(redis: Redis, is_undone: bool) -> None:
    store, operation = CachedDatabaseStore(), make_operation()
    with transaction.atomic():
        pay(store, operation)
        assert value(redis) is None
        assert pay(store, operation).replayed == CREATED
        assert value(redis) is None
        transaction.set_rollback(is_undone)
    assert is_record(value(redis)) is not is_undone
    assert bool(pay(store, operation).replayed) is not is_undone


@pytest.mark.django_db(transaction=True)
def test_operations_within_each_other_keep_their_own_copies(redis: Redis) -> None:
    store, outer, inner, failed = CachedDatabaseStore(), make_operation(), make_operation(), make_operation()

    def nest(claim: Any) -> Attempt[int]:
        pay(store, inner)
        pay(store, failed, None)
        return Attempt(answer=1, outcome=Outcome(status=200, body=b"outer"))

    execute(store, outer, nest, ttl=DAY)
    assert len(redis.keys(RECORDS)) == 2
    with without_sql_of_records():
        kept = [store.recall(operation) for operation in (outer, inner)]
    assert [record and record.outcome.body for record in kept] == [b"outer", CREATED.body]
    assert pay(store, failed).replayed is None

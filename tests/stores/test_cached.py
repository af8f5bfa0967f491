"""Redis in front of the database: what it answers, what it forgets, and that it never decides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from redis import Redis
from rest_framework.response import Response

from django_idempotency import Policy
from django_idempotency.core.attempts import Attempt
from django_idempotency.core.execution import execute
from django_idempotency.http.async_exchange import aperform
from django_idempotency.http.exchange import attempt
from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.stores.models import Record as Row
from django_idempotency.testing import CREATED, make_operation
from tests.callers import Caller, new_key
from tests.campaigns.harness import eventually
from tests.campaigns.sessions import Gate, other_sessions
from tests.conformance.views_responses import elsewhere, impatient, in_flight, scripted
from tests.records import rows
from tests.stores.redis_sights import KINDS, RECORDS, is_mark, is_record, value, without_sql_of_records

pytestmark = pytest.mark.urls("tests.conformance.urls_redis")


@KINDS
def test_a_replay_asks_redis_alone(alice: Caller, redis: Redis, path: str) -> None:
    key = new_key()
    with scripted() as script:
        first = alice.post(path, {"amount": 3}, key=key)
        with without_sql_of_records():
            again = alice.post(path, {"amount": 3}, key=key)
            other = alice.post(path, {"amount": 4}, key=key)
    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 422)
    assert (again.content, again["Location"]) == (first.content, first["Location"])
    assert again["Idempotent-Replayed"] == "true"
    assert (script.calls, rows()) == (1, (1, 1))


@KINDS
def test_flushall_changes_nothing_and_the_record_is_copied_back(alice: Caller, redis: Redis, path: str) -> None:
    key = new_key()
    with scripted() as script:
        first = alice.post(path, key=key)
        redis.flushall()
        again = alice.post(path, key=key)
        assert is_record(value(redis))
        with without_sql_of_records():
            third = alice.post(path, key=key)
    assert again.content == third.content == first.content
    assert (script.calls, rows()) == (1, (1, 1))


@KINDS
def test_flushall_in_mid_flight_lets_nobody_in(alice: Caller, redis: Redis, path: str) -> None:
    key = new_key()
    with in_flight(alice, path, key=key) as flight:
        redis.flushall()
        with impatient():
            duplicate = alice.post(path, key=key)
        redis.flushall()
        flight.land()
        first = flight.response.result()
        again = alice.post(path, key=key)
    assert (duplicate.status_code, first.status_code) == (409, 201)
    assert again.content == first.content
    assert (flight.script.calls, rows()) == (1, (1, 1))


@pytest.mark.postgresql  # SQLite lets nobody look whose claim it is while it is held
@KINDS
def test_another_request_in_flight_is_a_mismatch_and_misleads_nobody(alice: Caller, redis: Redis, path: str) -> None:
    key = new_key()
    with in_flight(alice, path, {"amount": 3}, key=key) as flight, impatient():
        marked = alice.post(path, {"amount": 4}, key=key)
        redis.flushall()
        unmarked = alice.post(path, {"amount": 4}, key=key)
        assert value(redis) is None
        duplicate = alice.post(path, {"amount": 3}, key=key)
        assert is_mark(value(redis))
        flight.land()
        first = flight.response.result()
        again = alice.post(path, {"amount": 3}, key=key)
    assert [answer.status_code for answer in (marked, unmarked, duplicate)] == [422, 422, 409]
    assert again.content == first.content
    assert flight.script.calls == 1


def test_a_mark_of_another_request_does_not_refuse_the_one_that_was_completed(alice: Caller, redis: Redis) -> None:
    """Such a mark is there for the moment between look-up and claim."""
    key, other = new_key(), new_key()
    with scripted() as script:
        first = alice.post("/required/", {"amount": 3}, key=key)
        (name,) = redis.keys(RECORDS)
        redis.delete(name)
        gate = Gate()

        def hold(run: Callable[..., Any], sql: str, *args: Any) -> Any:
            if "idempotency_record" in sql:
                gate()
            return run(sql, *args)

        def mismatch() -> Any:
            with connection.execute_wrapper(hold):
                return alice.post("/required/", {"amount": 4}, key=key)

        with other_sessions() as start:
            refused = start(mismatch)
            gate.wait_until_reached()
            assert is_mark(redis.get(name))
            again = alice.post("/required/", {"amount": 3}, key=key)
            gate.open()
            assert refused.result().status_code == 422
        assert alice.post("/required/", key=other).status_code == 201
    assert (again.status_code, again.content) == (201, first.content)
    assert script.calls == 2


def test_an_unknown_outcome_is_told_at_once(alice: Caller, redis: Redis) -> None:
    key = new_key()

    def broken(request: Any) -> Response:
        raise ArithmeticError

    with scripted(broken) as script:
        answers = [elsewhere(lambda: alice.post("/unknown/", key=key)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [500, 409, 409]
    assert [answer.json()["code"] for answer in answers[1:]] == ["outcome-unknown"] * 2
    assert script.calls == 1


@KINDS
def test_each_user_has_a_key_of_their_own(alice: Caller, bob: Caller, redis: Redis, path: str) -> None:
    key = new_key()
    with scripted() as script:
        firsts = [caller.post(path, key=key) for caller in (alice, bob)]
        with without_sql_of_records():
            again = [caller.post(path, key=key) for caller in (alice, bob)]
    assert [answer.content for answer in again] == [answer.content for answer in firsts]
    assert len({answer.content for answer in firsts}) == script.calls == len(redis.keys(RECORDS)) == 2


@KINDS
def test_another_secret_is_another_key_of_redis_and_the_same_outcome(alice: Caller, redis: Redis, path: str) -> None:
    key = new_key()
    with scripted() as script:
        with override_settings(IDEMPOTENCY_SECRETS=["old"]):
            first = alice.post(path, key=key)
        with override_settings(IDEMPOTENCY_SECRETS=["new", "old"]):
            rotated = [alice.post(path, key=key) for _ in range(2)]
            assert len(redis.keys(RECORDS)) == 2
        with override_settings(IDEMPOTENCY_SECRETS=["new"]):
            dropped = [alice.post(path, key=key) for _ in range(2)]
    assert {answer.content for answer in rotated} == {first.content}
    assert {(answer.status_code, answer.json()["code"]) for answer in dropped} == {(409, "response-not-replayable")}
    assert script.calls == 1


@pytest.mark.parametrize("path", ["/brief/", "/brief-lease/"])
def test_redis_forgets_no_later_than_the_record_expires(alice: Caller, redis: Redis, path: str) -> None:
    with scripted():
        alice.post(path, key=new_key())
        (name,) = redis.keys(RECORDS)
        assert 5000 < redis.pttl(name) <= 7000
        redis.flushall()


@pytest.mark.parametrize(("left", "most"), [(3600, 60), (30, 30)])
def test_a_copy_of_what_was_found_is_for_a_minute_at_most(alice: Caller, redis: Redis, left: int, most: int) -> None:
    key = new_key()
    with scripted():
        alice.post("/required/", key=key)
        Row.objects.update(expires_at=Row.objects.get().completed_at + timedelta(seconds=left))
        redis.flushall()
        alice.post("/required/", key=key)
    (name,) = redis.keys(RECORDS)
    assert (most - 10) * 1000 < redis.pttl(name) <= most * 1000


@pytest.mark.django_db(transaction=True)
def test_what_has_expired_is_not_copied(redis: Redis) -> None:
    store, operation = CachedDatabaseStore(), make_operation()
    for ttl in (timedelta(0), timedelta(milliseconds=-5)):
        execute(store, operation, lambda claim: Attempt(answer=1, outcome=CREATED), ttl=ttl)
        assert value(redis) is None


@pytest.mark.django_db(transaction=True)
def test_an_asynchronous_view_is_replayed_from_redis_and_frees_its_key(redis: Redis) -> None:
    policy, operation, seen = Policy(claim="lease"), make_operation(), []

    async def succeed(claim: Any) -> Attempt[Any]:
        seen.append(value(redis))
        return attempt(HttpResponse(b"done", status=201), policy, kept=True)

    async def fail(claim: Any) -> Attempt[Any]:
        return attempt(HttpResponse(status=503), policy, kept=False)

    def perform(run: Any) -> Any:
        return async_to_sync(aperform)(RequestFactory().post("/"), operation, policy, run)

    assert perform(fail).answer.status_code == 503
    assert value(redis) is None
    assert perform(succeed).answer.content == b"done"
    with without_sql_of_records():
        assert perform(succeed).replayed.body == b"done"
    assert len(seen) == 1
    assert is_mark(seen[0])


def test_a_waiting_duplicate_gets_the_outcome(alice: Caller, redis: Redis) -> None:
    key = new_key()
    with in_flight(alice, "/waiting/", key=key) as flight:
        calls = script_calls(redis)
        waiting = flight.join(alice, "/waiting/", key=key)
        eventually(lambda: script_calls(redis) > calls, "a look of the duplicate")
        flight.land()
        assert waiting.result().content == flight.response.result().content
    assert flight.script.calls == 1


def script_calls(redis: Redis) -> int:
    """Count what has been asked of Redis by scripts, as look-ups are."""
    return int(redis.info("commandstats")["cmdstat_evalsha"]["calls"])

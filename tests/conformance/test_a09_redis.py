"""A9: Redis, alone and in front of the database. Faults under load are in ``tests/campaigns``."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import redis
from django.core import checks
from django.core.cache import caches
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.core.attempts import Attempt
from django_idempotency.core.execution import execute
from django_idempotency.core.leases import Held, Lease
from django_idempotency.core.records import Claim, Record
from django_idempotency.exceptions import LeaseLost, OperationInProgress, StoreUnavailable
from django_idempotency.stores.encoding import checksum
from django_idempotency.stores.models import Record as Row
from django_idempotency.stores.redis import RedisStore
from django_idempotency.testing import CREATED, DAY, make_operation
from tests.callers import Caller, new_key
from tests.campaigns.harness import eventually
from tests.campaigns.redis_faults import RedisServer, patiently_cached
from tests.campaigns.sessions import PATIENCE, other_sessions
from tests.conformance.views_responses import created, impatient, in_flight, scripted, twin
from tests.models import Payment
from tests.redis_servers import cache

pytestmark = pytest.mark.urls("tests.conformance.urls_redis")
KINDS = pytest.mark.parametrize("path", ["/required/", "/leased/"])
MOMENT = timedelta(milliseconds=50)
REDIS_STORE = {"default": {"BACKEND": "django_idempotency.stores.redis.RedisStore"}}


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with patiently_cached() as client:
        yield client


@pytest.fixture
def redis_alone(client: redis.Redis, settings: Any) -> redis.Redis:
    settings.IDEMPOTENCY_STORES = REDIS_STORE
    return client


def test_a9_110_of_many_claims_one_wins(client: redis.Redis) -> None:
    store, operation, together = RedisStore(), make_operation(), Barrier(12)

    def claim() -> Lease | Held:
        together.wait(PATIENCE)
        return store.reserve(operation, lease=DAY, ttl=DAY)

    with other_sessions() as start:
        claims = [future.result(PATIENCE) for future in [start(claim) for _ in range(12)]]
    (won,) = (claim for claim in claims if isinstance(claim, Lease))
    assert {claim.owner for claim in claims} == {won.owner}


def test_a9_110_a_claim_frees_itself_by_the_clock_of_the_server(client: redis.Redis) -> None:
    store, operation = RedisStore(claim=timedelta(seconds=30)), make_operation()
    with store.transaction():
        store.claim(operation)
        (name,) = client.keys("*")
        assert 20_000 < client.pttl(name) <= 30_000
    assert client.keys("*") == []


def test_a9_110_only_the_owner_completes_renews_and_releases(client: redis.Redis) -> None:
    store, operation = RedisStore(), make_operation()
    old = store.reserve(operation, lease=MOMENT, ttl=DAY)
    assert isinstance(old, Lease)
    held = eventually(lambda: (found := store.reserve(operation, lease=MOMENT, ttl=DAY)).has_lapsed and found, "lapse")
    new = store.take_over(operation, held, lease=DAY)
    assert new is not None
    before = client.hgetall(client.keys("*")[0])
    assert store.take_over(operation, held, lease=DAY) is None
    assert not store.renew(old, lease=DAY)
    store.release(old, unknown=True)
    with pytest.raises(LeaseLost):
        store.write_steps(old, old.steps)
    with pytest.raises(LeaseLost), store.transaction():
        store.complete(old, CREATED, ttl=DAY)
    assert client.hgetall(client.keys("*")[0]) == before
    with store.transaction():
        store.complete(new, CREATED, ttl=DAY)
    assert isinstance(store.reserve(operation, lease=DAY, ttl=DAY).record, Record)


def test_a9_110_a_claim_that_was_lost_meanwhile_keeps_nothing(client: redis.Redis) -> None:
    store, operation, rivals = RedisStore(claim=MOMENT), make_operation(), []

    def outlast(claim: Claim) -> Attempt[int]:
        eventually(lambda: not client.keys("*"), "the end of the claim")
        rivals.append(store.reserve(operation, lease=DAY, ttl=DAY))
        return Attempt(answer=1, outcome=CREATED)

    with pytest.raises(OperationInProgress):
        execute(store, operation, outlast, ttl=DAY)
    found = store.reserve(operation, lease=DAY, ttl=DAY)
    assert (found.owner, found.record) == (rivals[0].owner, None)


def test_a9_112_redis_alone_is_labelled_best_effort(redis_alone: redis.Redis) -> None:
    (warning,) = (message for message in checks.run_checks() if message.id == "idempotency.W030")
    assert isinstance(warning, checks.Warning)
    assert "best effort" in warning.msg
    assert "failover" in warning.msg
    assert "CachedDatabaseStore" in warning.hint
    assert "best effort" in " ".join((RedisStore.__doc__ or "").lower().split())


def test_a9_112_the_database_with_redis_in_front_is_not(client: redis.Redis) -> None:
    assert "idempotency.W030" not in {message.id for message in checks.run_checks()}


@KINDS
def test_a9_113_flushall_at_any_moment_still_executes_once(alice: Caller, client: redis.Redis, path: str) -> None:
    key = new_key()

    def flushing(request: Request) -> Response:
        client.flushall()
        return created(request)

    with scripted(flushing) as script:
        answers = []
        for _ in range(4):
            answers.append(alice.post(path, key=key))
            client.flushall()
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert (script.calls, Payment.objects.count(), Row.objects.count()) == (1, 1, 1)


@KINDS
def test_a9_113_the_unique_row_decides_where_redis_lets_everybody_in(
    alice: Caller, client: redis.Redis, path: str
) -> None:
    key, together = new_key(), Barrier(8)

    def duplicate() -> Any:
        together.wait(PATIENCE)
        client.flushall()
        answer = twin(alice).post(path, key=key)
        client.flushall()
        return answer

    with scripted() as script, other_sessions() as start:
        answers = [future.result(PATIENCE) for future in [start(duplicate) for _ in range(8)]]
        answers.append(alice.post(path, key=key))
    done = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert [answer.has_header("Idempotent-Replayed") for answer in done].count(False) == 1
    assert len({answer.content for answer in done}) == 1
    assert (script.calls, Payment.objects.count(), Row.objects.count()) == (1, 1, 1)


@KINDS
@pytest.mark.parametrize("is_silent", [False, True], ids=["gone", "silent"])
def test_a9_114_redis_alone_and_down_is_a_503_and_nothing_runs(
    alice: Caller, settings: Any, path: str, is_silent: bool
) -> None:
    key = new_key()
    with RedisServer() as server, scripted() as script:
        settings.CACHES, settings.IDEMPOTENCY_STORES = {"default": cache(server.url)}, REDIS_STORE
        first = alice.post(path, key=key)
        if is_silent:
            with server.stopped():
                down = [alice.post(path, key=name) for name in (key, new_key())]
        else:
            server.kill()
            down = [alice.post(path, key=name) for name in (key, new_key())]
        caches["default"].close()
    assert first.status_code == 201
    assert [(answer.status_code, answer.json()["code"]) for answer in down] == [(503, "store-unavailable")] * 2
    assert all(answer["Retry-After"] == "1" for answer in down)
    assert script.calls == 1


def sealed(data: bytes) -> bytes:
    """Return bytes as anybody can seal them who knows the code."""
    return data + checksum(data)


class Trap:
    """Fails the test when it is unpickled."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was loaded",)


FOREIGN: dict[str, Callable[[redis.Redis, bytes], Any]] = {
    "a string": lambda client, name: client.set(name, b"junk"),
    "no status": lambda client, name: client.hdel(name, "status"),
    "another status": lambda client, name: client.hset(name, "status", "archived"),
    "another status alone": lambda client, name: (
        client.hdel(name, "outcome") and client.hset(name, "status", "archived")
    ),
    "a status of other bytes": lambda client, name: client.hset(name, "status", b"\xff\x00"),
    "no outcome": lambda client, name: client.hdel(name, "outcome"),
    "a part of the outcome": lambda client, name: client.hset(name, "outcome", client.hget(name, "outcome")[:-1]),
    "another version": lambda client, name: client.hset(
        name, "outcome", client.hget(name, "outcome").replace(b"cy:1:", b"cy:2:")
    ),
    "other bytes": lambda client, name: client.hset(name, "outcome", os.urandom(99)),
    "a pickle": lambda client, name: client.hset(name, "outcome", pickle.dumps(Trap())),
    "a pickle in our clothes": lambda client, name: client.hset(
        name, "outcome", sealed(b"idempotency:1:record:" + pickle.dumps(Trap()))
    ),
    "pickled steps": lambda client, name: client.hset(name, "steps", pickle.dumps(Trap())),
    "a strange attempt": lambda client, name: client.hset(name, "attempt", "first"),
    "strange steps": lambda client, name: client.hset(name, "steps", "{"),
}


@KINDS
@pytest.mark.parametrize("foreign", FOREIGN)
def test_a9_115_what_cannot_be_read_is_refused_and_logged_and_not_run_again(
    alice: Caller, redis_alone: redis.Redis, path: str, foreign: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = new_key()
    with scripted() as script:
        assert alice.post(path, key=key).status_code == 201
        (name,) = redis_alone.keys("*")
        FOREIGN[foreign](redis_alone, name)
        with caplog.at_level(logging.WARNING, "django_idempotency"):
            refused = [alice.post(path, key=key) for _ in range(2)]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(503, "store-unavailable")] * 2
    assert script.calls == 1
    logged = [record for record in caplog.records if record.name == "django_idempotency"]
    assert len(logged) == (1 if foreign == "a string" else 2)  # what the server refuses is logged once a pause
    assert key not in caplog.text


def test_a9_115_a_store_of_foreign_bytes_raises(client: redis.Redis) -> None:
    store, operation = RedisStore(), make_operation()
    client.set(f"idempotency:record:{operation.key.digest.hex()}", b"junk")
    with pytest.raises(StoreUnavailable):
        store.reserve(operation, lease=DAY, ttl=DAY)


@KINDS
def test_redis_alone_replays_refuses_and_frees(alice: Caller, bob: Caller, redis_alone: redis.Redis, path: str) -> None:
    key = new_key()

    def broken(request: Request) -> HttpResponseBase:
        raise ArithmeticError

    with scripted(broken):
        assert alice.post(path, {"amount": 3}, key=key).status_code == 500
        assert redis_alone.keys("*") == []
    with in_flight(alice, path, {"amount": 3}, key=key) as flight, impatient():
        in_progress = alice.post(path, {"amount": 3}, key=key)
        mismatch = alice.post(path, {"amount": 4}, key=key)
        flight.land()
        first = flight.response.result(PATIENCE)
    with scripted() as script:
        again, reused = (alice.post(path, {"amount": amount}, key=key) for amount in (3, 4))
        other = bob.post(path, {"amount": 3}, key=key)
    assert (in_progress.status_code, mismatch.status_code) == (409, 422)
    assert (first.status_code, again.status_code, reused.status_code) == (201, 201, 422)
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert other.content != first.content
    assert (script.calls, Row.objects.count()) == (1, 0)


def test_redis_alone_leaves_an_unknown_outcome_to_an_operator(alice: Caller, redis_alone: redis.Redis) -> None:
    key = new_key()

    def broken(request: Request) -> HttpResponseBase:
        raise ArithmeticError

    with scripted(broken) as script:
        answers = [alice.post("/unknown/", key=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [500, 409, 409]
    assert {answer.json()["code"] for answer in answers[1:]} == {"outcome-unknown"}
    assert (script.calls, redis_alone.ttl(redis_alone.keys("*")[0])) == (1, -1)


@pytest.mark.parametrize("path", ["/brief/", "/brief-lease/"])
def test_redis_alone_forgets_when_the_retention_ends(alice: Caller, redis_alone: redis.Redis, path: str) -> None:
    with scripted():
        assert alice.post(path, key=new_key()).status_code == 201
    (name,) = redis_alone.keys("*")
    assert 5000 < redis_alone.pttl(name) <= 7000

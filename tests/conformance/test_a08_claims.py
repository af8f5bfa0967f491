"""A8: claims on PostgreSQL and SQLite: the unique row, isolation levels, pgbouncer, duplicates in flight."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import chain, repeat
from threading import Barrier

import pytest
from django.db import connection, transaction
from django.db.models import F

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim
from django_idempotency.core.records import Record as StoredRecord
from django_idempotency.exceptions import ClaimLost
from django_idempotency.testing import make_operation
from tests.callers import Caller, new_key
from tests.campaigns import pgbouncer
from tests.campaigns.failpoints import HEADER
from tests.campaigns.harness import Server, eventually
from tests.campaigns.sessions import (
    PATIENCE,
    Gate,
    advisory_locks,
    connection_options,
    other_sessions,
    seen_from_outside,
)
from tests.conformance.views_databases import LocklessStore, Moments
from tests.models import Payment
from tests.records import rows

URLS = "tests.conformance.urls_databases"
STORES = "tests.conformance.views_databases"
DAY = timedelta(days=1)
pytestmark = pytest.mark.urls(URLS)


@pytest.fixture(params=["REPEATABLE_READ", "SERIALIZABLE"])
def strict_isolation(request: pytest.FixtureRequest, alice: Caller) -> Iterator[str]:
    from psycopg import IsolationLevel

    with connection_options(isolation_level=IsolationLevel[request.param]):
        yield request.param


# 99 and 100: the unique row


@pytest.mark.postgresql
def test_a8_99_losing_to_a_rival_leaves_an_outer_transaction_usable(
    alice: Caller, moments: Moments, lockless_store: None
) -> None:
    request = partial(alice.post, "/watched/", {"amount": 3}, key=new_key())
    moments.once_at("before write", lambda: seen_from_outside(request))
    with transaction.atomic():
        loser = request()
        assert (loser.status_code, loser["Idempotent-Replayed"]) == (201, "true")
        Payment.objects.create(amount=4)
    assert rows() == (2, 1)


@pytest.mark.postgresql  # an open transaction on SQLite is the only writer: nothing refuses its claim
def test_a8_99_a_refused_claim_leaves_an_outer_transaction_usable(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()
    moments.at("after write", gate)
    with other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        with transaction.atomic():
            assert alice.post("/watched/", {"amount": 3}, key=key).status_code == 409
            assert alice.post("/watched/", {"amount": 4}, key=key).status_code == 422
            Payment.objects.create(amount=4)
        gate.open()
        assert winner.result(PATIENCE).status_code == 201
    assert rows() == (2, 1)


@pytest.mark.postgresql
@pytest.mark.parametrize("rolls_back", [False, True])
def test_a8_100_who_inserts_second_waits_and_then_loses_or_takes_over(
    alice: Caller, moments: Moments, rolls_back: bool
) -> None:
    store, operation, gate = LocklessStore(), make_operation(), Gate()
    moments.once_at("after complete", gate)

    def insert_first() -> None:
        with store.transaction() as first:
            store.complete(_won(store.claim(operation)), Outcome(status=201, body=b"first"), ttl=DAY)
            if rolls_back:
                first.rollback()

    def insert_second() -> bytes | None:
        try:
            with store.transaction():
                store.complete(_won(store.claim(operation)), Outcome(status=201, body=b"second"), ttl=DAY)
        except ClaimLost:
            pass
        with store.transaction():
            found = store.claim(operation)
        assert isinstance(found, StoredRecord)
        return found.outcome.body

    with other_sessions() as start:
        first = start(insert_first)
        gate.wait_until_reached()
        second = start(insert_second)
        eventually(_somebody_waits_for_a_row, "the second insert waits for the first")
        gate.open()
        first.result(PATIENCE)
        assert second.result(PATIENCE) == (b"second" if rolls_back else b"first")


def _won(found: Claim | StoredRecord) -> Claim:
    assert isinstance(found, Claim)
    return found


def _somebody_waits_for_a_row() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        return bool(cursor.fetchone()[0])


# 101: isolation levels


@pytest.mark.postgresql
@pytest.mark.parametrize("path", ["/watched/", "/retried/"])
def test_a8_101_of_two_that_both_run_one_commits(
    alice: Caller, moments: Moments, lockless_store: None, strict_isolation: str, path: str
) -> None:
    key, both_run = new_key(), Barrier(2)
    moments.at("after write", lambda: both_run.wait(PATIENCE))
    with other_sessions() as start:
        pair = [start(alice.post, path, {"amount": 3}, key=key) for _ in range(2)]
        answers = sorted((future.result(PATIENCE) for future in pair), key=lambda answer: answer.status_code)
    retry = alice.post(path, {"amount": 3}, key=key)
    if path == "/watched/" and strict_isolation == "SERIALIZABLE":
        assert [answer.status_code for answer in answers] == [201, 503]
        assert (answers[1]["Retry-After"], answers[1].json()["code"]) == ("1", "store-unavailable")
    else:
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].content == answers[1].content
    assert (retry.status_code, retry.content, retry["Idempotent-Replayed"]) == (201, answers[0].content, "true")
    assert rows() == (1, 1)


@pytest.mark.postgresql
@pytest.mark.parametrize("path", ["/watched/", "/retried/"])
def test_a8_101_a_conflict_over_the_effects_stores_nothing_and_may_be_run_again(
    alice: Caller, moments: Moments, strict_isolation: None, path: str
) -> None:
    account, key = Payment.objects.create(amount=0, reference="account"), new_key()
    deposit = partial(Payment.objects.filter(pk=account.pk).update, amount=F("amount") + 1)
    rivals = iter([deposit])

    def deposit_after_a_rival() -> None:
        for rival in rivals:
            seen_from_outside(rival)
        deposit()

    moments.at("before write", deposit_after_a_rival)
    first = alice.post(path, {"amount": 3}, key=key)
    if path == "/watched/":
        assert (first.status_code, first["Retry-After"], rows()) == (503, "1", (1, 0))
        assert alice.post(path, {"amount": 3}, key=key).status_code == 201
    else:
        assert (first.status_code, first.has_header("Idempotent-Replayed")) == (201, False)
    account.refresh_from_db()
    assert (account.amount, rows()) == (2, (2, 1))


@pytest.mark.postgresql
def test_a8_101_a_deadlock_stores_nothing_and_is_run_again(alice: Caller, moments: Moments) -> None:
    one, other = (Payment.objects.create(amount=0, reference="account") for _ in range(2))
    meet = partial(Barrier(2).wait, PATIENCE)
    plans = chain([(one, other, meet), (other, one, meet)], repeat((one, other, bool)))
    runs: list[Payment] = []

    def deposit() -> None:
        first, second, pause = next(plans)
        runs.append(first)
        Payment.objects.filter(pk=first.pk).update(amount=F("amount") + 1)
        pause()
        Payment.objects.filter(pk=second.pk).update(amount=F("amount") + 1)

    moments.at("before write", deposit)
    with other_sessions() as start:
        pair = [start(alice.post, "/retried/", {"amount": 3}, key=new_key()) for _ in range(2)]
        assert [future.result(PATIENCE).status_code for future in pair] == [201, 201]
    assert len(runs) >= 3
    assert list(Payment.objects.filter(reference="account").values_list("amount", flat=True)) == [2, 2]
    assert rows() == (4, 2)


# 102: pgbouncer

needs_pgbouncer = pytest.mark.skipif(not pgbouncer.is_installed(), reason="pgbouncer is not installed")


@needs_pgbouncer
@pytest.mark.postgresql
def test_a8_102_it_works_through_a_pool_by_transaction(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()
    moments.once_at("after write", gate)
    with pgbouncer.transaction_pool(2) as address, connection_options(**address), other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        waiter = start(alice.post, "/watched/", {"amount": 3}, key=key, headers={"Prefer": "wait=10"})
        pairs = [start(alice.post, "/watched/", {"amount": 3}, key=other) for other in [new_key()] * 4 + [new_key()]]
        assert alice.post("/watched/", {"amount": 3}, key=key).status_code == 409
        assert alice.post("/watched/", {"amount": 4}, key=key).status_code == 422
        assert {pair.result(PATIENCE).status_code for pair in pairs} <= {201, 409}
        gate.open()
        assert [request.result(PATIENCE).status_code for request in (winner, waiter)] == [201, 201]
        assert waiter.result()["Idempotent-Replayed"] == "true"
        assert rows() == (3, 3)
        assert advisory_locks() == 0


@needs_pgbouncer
@pytest.mark.postgresql
@pytest.mark.parametrize("step", ["after claim", "after complete", "after commit"])
def test_a8_102_a_kill_behind_the_pool_frees_the_key(alice: Caller, step: str) -> None:
    key = new_key()
    with pgbouncer.transaction_pool(2) as address, Server(token=alice.token.key, options=address) as server:
        with pytest.raises(ConnectionError):
            server.post("/payments/", {"amount": 3}, key=key, headers={HEADER: step})
        eventually(lambda: advisory_locks() == 0, "the end of the dead worker's transaction")
        retry = server.post("/payments/", {"amount": 3}, key=key)
    assert (retry.status, retry.is_replayed) == (201, step == "after commit")
    assert rows() == (1, 1)


# 103: a duplicate in flight


@pytest.mark.postgresql
@pytest.mark.parametrize("moment", ["before write", "after write", "after complete"])
def test_a8_103_a_duplicate_does_not_hang_behind_the_open_transaction(
    alice: Caller, moments: Moments, watched_store: None, moment: str
) -> None:
    key, gate = new_key(), Gate()
    moments.at(moment, gate)
    with other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        duplicate = alice.post("/watched/", {"amount": 3}, key=key)
        mismatch = alice.post("/watched/", {"amount": 4}, key=key)
        assert not winner.done()
        gate.open()
        assert winner.result(PATIENCE).status_code == 201
    assert (duplicate.status_code, duplicate["Retry-After"]) == (409, "1")
    assert (mismatch.status_code, mismatch.has_header("Retry-After")) == (422, False)


@pytest.mark.sqlite
def test_a8_103_on_sqlite_a_duplicate_waits_no_longer_than_the_busy_time_out(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()
    moments.at("after write", gate)
    with connection_options(timeout=0.1), other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        duplicate = alice.post("/watched/", {"amount": 3}, key=key)
        assert not winner.done()
        gate.open()
        assert winner.result(PATIENCE).status_code == 201
    assert (duplicate.status_code, duplicate["Retry-After"]) == (409, "1")

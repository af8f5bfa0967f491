"""A7 under leases: who holds one, who loses it, and what becomes of the effects. Kills are in ``tests/campaigns``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.models import Record
from django_idempotency.testing import DAY
from tests.callers import Caller, new_key
from tests.campaigns.harness import eventually
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions, seen_from_outside
from tests.conformance.views_databases import Moments
from tests.conformance.views_leases import bank, be_killed, lapse, remaining, wait_for_lapse
from tests.conformance.views_responses import created, scripted, twin
from tests.models import Payment
from tests.records import expire, rows

pytestmark = pytest.mark.urls("tests.conformance.urls_leases")

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _mortal_store(settings: Any) -> Iterator[None]:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "tests.conformance.views_leases.MortalStore"}}
    yield
    bank.clear()


def test_a7_82_simultaneous_duplicates_under_a_lease_execute_once(alice: Caller) -> None:
    key, together = new_key(), Barrier(12)

    def duplicate() -> Any:
        together.wait(PATIENCE)
        return twin(alice).post("/leased/", {"amount": 3}, key=key)

    with scripted() as script, other_sessions() as start:
        answers = [future.result(PATIENCE) for future in [start(duplicate) for _ in range(12)]]
    done = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert [answer.has_header("Idempotent-Replayed") for answer in done].count(False) == 1
    assert len({answer.content for answer in done}) == 1
    assert (script.calls, rows()) == (1, (1, 1))


def test_a7_82_of_many_that_take_over_one_does(alice: Caller) -> None:
    key, together = new_key(), Barrier(12)
    be_killed(alice, "/leased/", key=key)
    lapse(key)

    def retry() -> Any:
        together.wait(PATIENCE)
        return twin(alice).post("/leased/", {"amount": 3}, key=key)

    with scripted() as script, other_sessions() as start:
        answers = [future.result(PATIENCE) for future in [start(retry) for _ in range(12)]]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert (script.calls, rows(), Record.objects.get().attempt) == (1, (1, 1), 2)


def test_a7_90_a_zombies_effects_cannot_commit(alice: Caller, moments: Moments) -> None:
    key, answers = new_key(), []

    def be_taken_over() -> None:
        lapse(key)
        answers.append(alice.post("/payouts/", {"amount": 3}, key=key))

    moments.once_at("call", lambda: seen_from_outside(be_taken_over))
    zombie = alice.post("/payouts/", {"amount": 3}, key=key)
    assert (zombie.status_code, zombie.json()["code"], zombie["Retry-After"]) == (409, "lease-lost", "17")
    assert [answer.status_code for answer in answers] == [201]
    assert len(bank.keys) == 2
    assert (len(set(bank.keys)), rows()) == (1, (1, 1))
    again = alice.post("/payouts/", {"amount": 3}, key=key)
    assert (again.content, again["Idempotent-Replayed"]) == (answers[0].content, "true")


def test_a7_90_a_zombie_is_refused_also_while_its_successor_still_runs(alice: Caller, moments: Moments) -> None:
    key, zombies, successors = new_key(), Gate(), Gate()
    gates = iter([zombies, successors])
    moments.at("call", lambda: next(gates)())
    with other_sessions() as start:
        zombie = start(twin(alice).post, "/payouts/", {"amount": 3}, key=key)
        zombies.wait_until_reached()
        lapse(key)
        successor = start(twin(alice).post, "/payouts/", {"amount": 3}, key=key)
        successors.wait_until_reached()
        zombies.open()
        assert zombie.result(PATIENCE).json()["code"] == "lease-lost"
        assert (rows(), Record.objects.get().status) == ((0, 1), "in_progress")
        successors.open()
        assert successor.result(PATIENCE).status_code == 201
    assert (rows(), Record.objects.get().attempt) == ((1, 1), 2)


@pytest.mark.postgresql  # on SQLite nobody takes over from a view that has written: it is the only writer
@pytest.mark.parametrize("moment", ["after write", "after step"])
def test_a7_90_a_zombie_that_has_written_rolls_back(alice: Caller, moments: Moments, moment: str) -> None:
    key, answers = new_key(), []

    def be_taken_over() -> None:
        lapse(key)
        answers.append(alice.post("/payouts/", {"amount": 3}, key=key))

    moments.once_at(moment, lambda: seen_from_outside(be_taken_over))
    zombie = alice.post("/payouts/", {"amount": 3}, key=key)
    assert (zombie.status_code, zombie.json()["code"]) == (409, "lease-lost")
    assert ([answer.status_code for answer in answers], rows()) == ([201], (1, 1))
    assert Payment.objects.get().pk == answers[0].json()["id"]
    assert len(bank.keys) == 1


def has_passed(deadline: datetime | None) -> bool:
    """Tell so by the clock of the database."""
    now = Record.objects.annotate(now=Now()).values_list("now", flat=True)[0]
    return deadline is not None and now > deadline


def test_a7_91_a_view_longer_than_its_lease_is_not_run_twice(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()
    moments.once_at("call", gate)
    with other_sessions() as start:
        first = start(twin(alice).post, "/short-payouts/", key=key)
        gate.wait_until_reached()
        deadline = Record.objects.get().lease_expires_at
        eventually(lambda: has_passed(deadline), "the first deadline")
        duplicate = alice.post("/short-payouts/", key=key)
        assert remaining(key) > timedelta(0)
        gate.open()
        assert first.result(PATIENCE).status_code == 201
    assert (duplicate.status_code, duplicate.json()["code"]) == (409, "in-progress")
    assert (len(bank.keys), rows(), Record.objects.get().attempt) == (1, (1, 1), 1)


def terminate_sessions(query: str) -> int:
    """End the sessions of others whose last query contains this; return how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE %s",
            [f"%{query}%"],
        )
        return int(cursor.fetchone()[0])


@pytest.mark.postgresql
def test_a7_91_the_heart_beats_on_when_its_session_was_ended(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()
    moments.once_at("call", gate)
    with other_sessions() as start:
        first = start(twin(alice).post, "/short-payouts/", key=key)
        gate.wait_until_reached()
        eventually(lambda: terminate_sessions("FOR UPDATE SKIP LOCKED"), "the first renewal")
        deadline = Record.objects.get().lease_expires_at
        eventually(lambda: has_passed(deadline), "the deadline of the renewal that was the last")
        duplicate = alice.post("/short-payouts/", key=key)
        gate.open()
        assert first.result(PATIENCE).status_code == 201
    assert (duplicate.status_code, len(bank.keys), rows(), Record.objects.get().attempt) == (409, 1, (1, 1), 1)


@pytest.mark.parametrize("path", ["/mortal-payouts/", "/limited-payouts/"], ids=["no heartbeat", "heartbeat limit"])
def test_a7_91_a_view_that_is_not_kept_alive_for_so_long_is_taken_over(
    alice: Caller, moments: Moments, path: str
) -> None:
    key, gate = new_key(), Gate()
    moments.once_at("call", gate)
    with other_sessions() as start:
        zombie = start(twin(alice).post, path, key=key)
        gate.wait_until_reached()
        wait_for_lapse(key)
        assert alice.post(path, key=key).status_code == 201
        gate.open()
        assert zombie.result(PATIENCE).json()["code"] == "lease-lost"
    assert (rows(), Record.objects.get().attempt) == ((1, 1), 2)


@pytest.mark.parametrize("path", ["/leased/", "/unknown/", "/switching/"])
def test_a7_92_a_missing_deadline_is_no_orphan(alice: Caller, path: str) -> None:
    key = new_key()
    be_killed(alice, path, key=key)
    Record.objects.update(lease_expires_at=None)
    headers = {"X-Claim": "transaction"}
    with scripted() as script:
        refused = alice.post(path, {"amount": 3}, key=key, headers=headers)
    assert (refused.status_code, refused.json()["code"], script.calls) == (409, "in-progress", 0)
    assert Record.objects.get().status == "in_progress"


def test_a7_93_a_lease_outlives_the_retention(alice: Caller) -> None:
    key = new_key()
    be_killed(alice, "/leased-brief/", key=key)
    expire(key)
    assert list(DatabaseStore().purge(batch_size=10)) == []
    with scripted() as script:
        assert alice.post("/leased-brief/", {"amount": 3}, key=key).json()["code"] == "in-progress"
        assert script.calls == 0


def test_a7_93_the_retention_outlives_the_lease(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        first = alice.post("/mortal/", key=key)
        record = Record.objects.get()
        assert record.lease_expires_at is None
        assert abs(record.expires_at - record.completed_at - DAY) < SECOND
        Record.objects.update(lease_expires_at=Now() - DAY)
        again = alice.post("/mortal/", key=key)
    assert (again.content, again["Idempotent-Replayed"], script.calls) == (first.content, "true", 1)


def terminate_session(process: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [process])


def fail_to_write(request: Request) -> Response:
    """End well, with a database that lets nothing be written any more."""
    response = created(request)
    if connection.vendor == "sqlite":
        connection.connection.execute("PRAGMA query_only = 1")
    else:
        process = connection.connection.info.backend_pid
        seen_from_outside(lambda: terminate_session(process))
    return response


@pytest.mark.parametrize("path", ["/leased/", "/unknown/"])
def test_a7_94_where_the_outcome_cannot_be_written_the_record_stays_and_the_effects_vanish(
    alice: Caller, path: str
) -> None:
    key = new_key()
    with scripted(fail_to_write):
        failed = alice.post(path, {"amount": 3}, key=key)
    connection.close()
    assert (failed.status_code, failed.json()["code"]) == (503, "store-unavailable")
    assert (rows(), Record.objects.get().status) == ((0, 1), "in_progress")
    with scripted() as script:
        assert alice.post(path, {"amount": 3}, key=key).json()["code"] == "in-progress"
        assert script.calls == 0
        lapse(key)
        retry = alice.post(path, {"amount": 3}, key=key)
    if path == "/unknown/":
        assert (retry.status_code, retry.json()["code"], script.calls, rows()) == (409, "outcome-unknown", 0, (0, 1))
    else:
        assert (retry.status_code, script.calls, rows()) == (201, 1, (1, 1))


def test_a7_95_the_key_is_let_go_no_sooner_than_the_response_is_stored(alice: Caller, moments: Moments) -> None:
    key, seen = new_key(), []

    def look() -> None:
        seen.append(seen_from_outside(lambda: Record.objects.values_list("status", "response_status").get(key=key)))

    for moment in ("before step", "call", "after step", "after write", "after complete"):
        moments.at(moment, look)
    assert alice.post("/payouts/", key=key).status_code == 201
    look()
    assert seen == [("in_progress", None)] * 5 + [("completed", 201)]


def test_i6_the_key_of_a_killed_holder_is_free_when_its_lease_has_ended_and_no_sooner(alice: Caller) -> None:
    key = new_key()
    be_killed(alice, "/mortal/", key=key)
    reserved_at = Record.objects.get().created_at
    with scripted():
        answer = eventually(lambda: taken_over(alice, key), "the takeover")
    record = Record.objects.get()
    waited = record.completed_at - reserved_at - timedelta(seconds=record.duration)
    assert (answer.status_code, rows(), record.attempt) == (201, (1, 1), 2)
    assert SECOND - timedelta(milliseconds=2) <= waited < 2 * SECOND


def taken_over(caller: Caller, key: str) -> Any:
    answer = caller.post("/mortal/", {"amount": 3}, key=key)
    assert answer.status_code == 201 or answer.json()["code"] == "in-progress"
    return answer if answer.status_code == 201 else None

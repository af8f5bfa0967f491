"""A8 under leases: duplicates in flight, isolation levels, pools, Django's transactions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from threading import Barrier
from typing import Any

import pytest
from django.db import transaction
from django.test import TestCase

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.sessions import (
    PATIENCE,
    Gate,
    atomic_requests,
    connection_options,
    other_sessions,
    seen_from_outside,
)
from tests.conformance.views_databases import Moments
from tests.conformance.views_leases import assert_unknown, bank, lapse
from tests.conformance.views_responses import scripted, twin
from tests.models import Payment
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_leases")


@pytest.fixture(autouse=True)
def _mortal_store(settings: Any) -> Iterator[None]:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "tests.conformance.views_leases.MortalStore"}}
    yield
    bank.clear()


@pytest.mark.postgresql
def test_a13_142_views_that_have_written_do_not_starve_each_others_steps_of_connections(
    alice: Caller, moments: Moments
) -> None:
    both_have_written = Barrier(2)
    moments.at("before step", lambda: both_have_written.wait(PATIENCE))
    with connection_options(pool={"min_size": 1, "max_size": 2, "timeout": 3}), other_sessions() as start:
        pair = [start(twin(alice).post, "/late/", key=new_key()) for _ in range(2)]
        assert [future.result(PATIENCE).status_code for future in pair] == [201, 201]
    assert (len(bank.keys), rows()) == (2, (2, 2))


@pytest.mark.postgresql
@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_a13_142_a_conflict_with_the_own_step_is_told_and_the_retry_does_not_call_again(
    alice: Caller, level: str
) -> None:
    from psycopg import IsolationLevel

    key = new_key()
    with connection_options(isolation_level=IsolationLevel[level]):
        first = alice.post("/late/", key=key)
        assert first.status_code == 201 or (first.json()["code"], rows()) == ("store-unavailable", (0, 1))
        assert alice.post("/late/", key=key).status_code == 201
        assert alice.post("/payouts/", key=new_key()).status_code == 201
    assert (len(bank.keys), rows()) == (2, (2, 2))


@pytest.mark.sqlite
def test_a13_142_on_sqlite_a_busy_database_after_the_call_costs_no_second_call(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()

    def write_slowly() -> None:
        with transaction.atomic():
            Payment.objects.create(amount=9, reference="another writer")
            gate()

    with connection_options(timeout=0.2), other_sessions() as start:
        moments.once_at("call", lambda: start(write_slowly) and gate.wait_until_reached())
        refused = alice.post("/keyless/", key=key)
        gate.open()
    assert (refused.status_code, refused["Retry-After"]) == (409, "17")
    if Record.objects.get().status == "in_progress":
        lapse(key)
    assert_unknown(alice.post("/keyless/", key=key))
    assert len(bank.keys) == 1


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("path", ["/leased/", "/payouts/"])
def test_a8_104_atomic_requests_changes_nothing(alice: Caller, moments: Moments, path: str, atomic: bool) -> None:
    key, seen = new_key(), []
    for moment in ("before step", "call", "after step"):
        moments.at(moment, lambda: seen.append(seen_from_outside(lambda: Record.objects.get().status)))
    with atomic_requests(atomic), scripted():
        first, again = (alice.post(path, key=key) for _ in range(2))
    assert (first.status_code, again.content, again["Idempotent-Replayed"]) == (201, first.content, "true")
    assert (rows(), seen) == ((1, 1), ["in_progress"] * (3 if path == "/payouts/" else 0))


def test_a8_104_within_an_outer_transaction_nothing_could_be_committed_first_so_nothing_runs(alice: Caller) -> None:
    with scripted() as script, transaction.atomic():
        failed = alice.post("/leased/", key=new_key())
    assert isinstance(failed.exc_info[1], RuntimeError)
    assert (failed.status_code, script.calls, rows()) == (500, 0, (0, 0))


class WrappedTests(TestCase):
    def test_a8_104_in_a_test_case_leases_work_within_its_transaction(self) -> None:
        alice = Caller("alice")
        for path in ("/leased/", "/payouts/", "/keyless/", "/late/"):
            key = new_key()
            with self.subTest(path), scripted():
                first, again = (alice.post(path, key=key) for _ in range(2))
                assert (first.status_code, again.content, again["Idempotent-Replayed"]) == (201, first.content, "true")
                assert alice.post(path, {"amount": 9}, key=key).status_code == 422
        bank.clear()


@pytest.mark.postgresql
def test_a8_103_a_duplicate_does_not_hang_behind_a_completion_that_is_not_committed(
    alice: Caller, moments: Moments
) -> None:
    key, gate = new_key(), Gate()
    moments.at("after complete", gate)
    with other_sessions() as start:
        first = start(twin(alice).post, "/payouts/", key=key)
        gate.wait_until_reached()
        duplicate = start(twin(alice).post, "/payouts/", key=key)
        with suppress(FutureTimeout):
            duplicate.result(2)
        was_refused = duplicate.done()
        gate.open()
        assert first.result(PATIENCE).status_code == 201
    assert (was_refused, duplicate.result(PATIENCE).status_code) == (True, 409)

"""A7: concurrency and crash safety. Real processes, and kills at every step (82, 84), are in ``tests/campaigns``."""

from __future__ import annotations

from concurrent.futures import as_completed
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.authtoken.models import Token

from django_idempotency.core.records import Claim
from django_idempotency.exceptions import OperationInProgress
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.models import Record
from django_idempotency.testing import make_operation
from tests.callers import Caller, new_key
from tests.campaigns.harness import eventually
from tests.campaigns.sessions import (
    PATIENCE,
    Gate,
    advisory_locks,
    atomic_requests,
    connection_options,
    other_sessions,
    seen_from_outside,
)
from tests.conformance.views_databases import Moments, OrphanPaymentViewSet
from tests.models import Payment
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_databases")


class Interrupted(BaseException):
    """Ends a worker in the middle of a request, as its time-out does."""


def interrupt() -> None:
    raise Interrupted


def fail() -> None:
    raise LookupError("a defect of the view")


def test_a7_82_simultaneous_duplicates_execute_once(alice: Caller) -> None:
    key, together = new_key(), Barrier(12)

    def duplicate() -> Any:
        together.wait(PATIENCE)
        return alice.post("/watched/", {"amount": 3}, key=key)

    with other_sessions() as start:
        answers = [future.result(PATIENCE) for future in [start(duplicate) for _ in range(12)]]
    done = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert [answer.has_header("Idempotent-Replayed") for answer in done].count(False) == 1
    assert len({answer.content for answer in done}) == 1
    assert rows() == (1, 1)


@pytest.mark.postgresql
def test_a3_30_simultaneous_mismatches_of_a_request_in_flight_are_all_told_so(alice: Caller, moments: Moments) -> None:
    key, gate, together = new_key(), Gate(), Barrier(12)
    moments.at("after write", gate)

    def mismatch() -> int:
        together.wait(PATIENCE)
        return int(alice.post("/watched/", {"amount": 4}, key=key).status_code)

    with other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        answers = [future.result(PATIENCE) for future in [start(mismatch) for _ in range(12)]]
        gate.open()
        assert winner.result(PATIENCE).status_code == 201
    assert answers == [422] * 12


@pytest.mark.postgresql
def test_a3_30_a_mismatch_that_is_just_finding_out_does_not_get_the_next_request_refused(
    alice: Caller, moments: Moments
) -> None:
    store, key = DatabaseStore(), new_key()
    first, second = (make_operation(content, key=key) for content in ("first", "second"))
    running, finding_out = Gate(), Gate()

    def run_first() -> None:
        with store.transaction():
            store.claim(first)
            running()

    def find_out() -> None:
        with store.transaction():
            with pytest.raises(OperationInProgress):
                store.claim(second)
            finding_out()

    def claim_second() -> bool:
        with store.transaction():
            return isinstance(store.claim(second), Claim)

    with other_sessions() as start:
        runs = start(run_first)
        running.wait_until_reached()
        finds_out = start(find_out)
        finding_out.wait_until_reached()
        running.open()
        runs.result(PATIENCE)
        claims = start(claim_second)
        eventually(lambda: claims.done() or advisory_locks(granted=False), "the next claim")
        finding_out.open()
        finds_out.result(PATIENCE)
        assert claims.result(PATIENCE)


def test_a7_83_the_claim_is_one_statement(alice: Caller, moments: Moments) -> None:
    claims: list[str] = []
    with CaptureQueriesContext(connection) as queries:
        moments.at("before write", lambda: claims.extend(query["sql"] for query in queries.captured_queries))
        assert alice.post("/watched/", {"amount": 3}, key=new_key()).status_code == 201
    about_records = [sql for sql in claims if Record._meta.db_table in sql]
    if connection.vendor == "sqlite":
        # Replays are read outside the transaction; within it, the claim is a write and its second look comes after it.
        begun = next(number for number, sql in enumerate(claims) if sql.startswith("BEGIN"))
        assert claims[begun + 1].startswith("DELETE")
        assert len(about_records) == 3
    else:
        assert claims[-2].startswith("BEGIN")
        assert about_records == [claims[-1]]


@pytest.mark.postgresql
@pytest.mark.parametrize("has_expired", [False, True])
def test_a7_83_the_unique_row_decides_between_two_that_both_run(
    alice: Caller, moments: Moments, lockless_store: None, has_expired: bool
) -> None:
    key, both_run = new_key(), Barrier(2)
    if has_expired:
        assert alice.post("/watched/", {"amount": 3}, key=key).status_code == 201
        Record.objects.update(expires_at=timezone.now())
    moments.at("after write", lambda: both_run.wait(PATIENCE))
    with other_sessions() as start:
        pair = [start(alice.post, "/watched/", {"amount": 3}, key=key) for _ in range(2)]
        first, second = (future.result(PATIENCE) for future in pair)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first.has_header("Idempotent-Replayed") != second.has_header("Idempotent-Replayed")
    assert rows() == (1 + has_expired, 1)


@pytest.mark.parametrize("moment", ["before write", "after write", "render", "after complete"])
def test_a7_84_an_interruption_at_any_moment_leaves_neither_effect_nor_record(
    alice: Caller, moments: Moments, watched_store: None, moment: str
) -> None:
    key = new_key()
    moments.once_at(moment, interrupt)
    with pytest.raises(Interrupted):
        alice.post("/watched/", {"amount": 3}, key=key)
    assert rows() == (0, 0)
    retry = alice.post("/watched/", {"amount": 3}, key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))


@pytest.mark.parametrize("atomic", [False, True])
def test_a7_85_a_constraint_that_fails_at_commit_is_not_a_success(
    alice: Caller, moments: Moments, atomic: bool
) -> None:
    key = new_key()
    moments.once_at("orphan", OrphanPaymentViewSet.leave_an_orphan)
    with atomic_requests(atomic), CaptureQueriesContext(connection) as queries:
        failed = alice.post("/orphans/", {"amount": 3}, key=key)
    assert failed.status_code == 500
    words = [query["sql"].split() for query in queries.captured_queries]
    endings = [last for first, *_, last in ([*word, word[-1]] for word in words) if first != "PRAGMA"]
    assert [ending for ending in endings if ending in ("COMMIT", "ROLLBACK")] == ["COMMIT", "ROLLBACK"]
    assert (rows(), Token.objects.filter(key="orphan").count()) == ((0, 0), 0)
    retry = alice.post("/orphans/", {"amount": 3}, key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))


def read_and_write() -> None:
    """Do what, beside another transaction that does the same, no serial order explains."""
    with transaction.atomic():
        Payment.objects.create(amount=Payment.objects.count(), reference="rival")


@pytest.mark.postgresql
@pytest.mark.parametrize("moment", ["render", "after complete"])
@pytest.mark.parametrize("path", ["/watched/", "/retried/"])
def test_a7_85_a_serialization_failure_at_commit_is_not_a_success(
    alice: Caller, moments: Moments, watched_store: None, path: str, moment: str
) -> None:
    from psycopg import IsolationLevel

    key, ours = new_key(), Payment.objects.exclude(reference="rival")
    moments.at("before write", Payment.objects.count)
    moments.once_at(moment, lambda: seen_from_outside(read_and_write))
    with connection_options(isolation_level=IsolationLevel.SERIALIZABLE):
        with CaptureQueriesContext(connection) as queries:
            answer = alice.post(path, {"amount": 3}, key=key)
        ends = [query["sql"].split()[-1] for query in queries.captured_queries]
        ends = [end for end in ends if end in ("COMMIT", "ROLLBACK")]
        if path == "/retried/":
            assert ends[:3] == ["COMMIT", "ROLLBACK", "COMMIT"]
        else:
            assert ends == ["COMMIT", "ROLLBACK"]
            assert (answer.status_code, answer["Retry-After"]) == (503, "1")
            assert answer.json()["code"] == "store-unavailable"
            assert (ours.count(), Record.objects.count()) == (0, 0)
            answer = alice.post(path, {"amount": 3}, key=key)
    assert (answer.status_code, answer.has_header("Idempotent-Replayed")) == (201, False)
    assert (ours.count(), Record.objects.count()) == (1, 1)


def test_a7_86_a_render_error_rolls_back(alice: Caller, moments: Moments) -> None:
    key = new_key()
    moments.once_at("render", fail)
    failed = alice.post("/watched/", {"amount": 3}, key=key)
    assert (failed.status_code, rows()) == (500, (0, 0))
    retry = alice.post("/watched/", {"amount": 3}, key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))


def test_a7_86_the_response_is_rendered_before_the_commit(alice: Caller, moments: Moments) -> None:
    seen: list[Any] = []
    moments.at("render", lambda: seen.append((connection.in_atomic_block, rows(), seen_from_outside(rows))))
    assert alice.post("/watched/", {"amount": 3}, key=new_key()).status_code == 201
    assert seen == [(True, (1, 0), (0, 0))]


def test_a7_87_hooks_on_commit_run_for_the_executing_request_alone(alice: Caller, moments: Moments) -> None:
    key, mails = new_key(), []

    def send_mail_on_commit() -> None:
        transaction.on_commit(lambda: mails.append(rows()))

    moments.at("before write", send_mail_on_commit)
    moments.once_at("after write", fail)
    assert (alice.post("/watched/", {"amount": 3}, key=key).status_code, mails) == (500, [])
    assert (alice.post("/watched/", {"amount": 3}, key=key).status_code, mails) == (201, [(1, 1)])
    replay = alice.post("/watched/", {"amount": 3}, key=key)
    mismatch = alice.post("/watched/", {"amount": 4}, key=key)
    assert (replay.status_code, mismatch.status_code, mails) == (201, 422, [(1, 1)])


@pytest.mark.postgresql
def test_a7_87_hooks_on_commit_do_not_run_for_a_run_that_lost(
    alice: Caller, moments: Moments, lockless_store: None
) -> None:
    mails: list[int] = []
    key, both_run = new_key(), Barrier(2)
    moments.at("before write", lambda: transaction.on_commit(lambda: mails.append(1)))
    moments.at("after write", lambda: both_run.wait(PATIENCE))
    with other_sessions() as start:
        pair = [start(alice.post, "/watched/", {"amount": 3}, key=key) for _ in range(2)]
        assert [future.result(PATIENCE).status_code for future in pair] == [201, 201]
    assert mails == [1]


@pytest.mark.postgresql
def test_a7_96_waiters_are_bounded_and_leave_the_winner_its_connection(
    alice: Caller, moments: Moments, settings: Any
) -> None:
    settings.IDEMPOTENCY_MAX_WAITERS = 3
    key, gate = new_key(), Gate()
    moments.at("after write", gate)

    def duplicate() -> Any:
        return alice.post("/watched/", {"amount": 3}, key=key, headers={"Prefer": "wait=10"})

    with connection_options(pool={"min_size": 1, "max_size": 2, "timeout": 5}), other_sessions() as start:
        winner = start(duplicate)
        gate.wait_until_reached()
        duplicates = [start(duplicate) for _ in range(8)]
        answered = as_completed(duplicates, timeout=PATIENCE)
        refused = [next(answered).result() for _ in range(5)]
        assert [answer.status_code for answer in refused] == [409] * 5
        assert not winner.done()
        gate.open()
        waited = [future.result() for future in answered]
        assert winner.result(PATIENCE).status_code == 201
    assert [(answer.status_code, answer.content) for answer in waited] == [(201, winner.result().content)] * 3
    assert all(answer["Idempotent-Replayed"] == "true" for answer in waited)
    assert rows() == (1, 1)


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("path", ["/nesting/through_a_view/", "/nesting/through_itself/"])
def test_a7_97_nested_enrolment_claims_once(alice: Caller, path: str, atomic: bool) -> None:
    key = new_key()
    with atomic_requests(atomic):
        first = alice.post(path, {"amount": 3}, key=key)
        assert (first.status_code, rows()) == (201, (1, 1))
        again = alice.post(path, {"amount": 3}, key=key)
    assert (again.status_code, again.content, rows()) == (201, first.content, (1, 1))
    assert again["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("atomic", [False, True])
def test_a7_97_a_nested_refusal_is_the_answer_of_the_outer_view(alice: Caller, atomic: bool) -> None:
    key = new_key()
    with atomic_requests(atomic):
        first = alice.post("/nesting/through_a_view/", {"amount": "much"}, key=key)
        again = alice.post("/nesting/through_a_view/", {"amount": "much"}, key=key)
    assert (first.status_code, rows()) == (400, (0, 1))
    assert (again.status_code, again.content, again["Idempotent-Replayed"]) == (400, first.content, "true")

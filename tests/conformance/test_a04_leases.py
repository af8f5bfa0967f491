"""A4 under leases: states, errors, retries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from django.db import connection
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException, NotFound, Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.sessions import PATIENCE, Gate, atomic_requests, other_sessions
from tests.conformance.views_databases import Moments
from tests.conformance.views_leases import Killed, bank, kill, lapse
from tests.conformance.views_responses import impatient, scripted, twin
from tests.models import Payment
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_leases")

Ending = Callable[[Request], HttpResponseBase]


@pytest.fixture(autouse=True)
def _mortal_store(settings: Any) -> Iterator[None]:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "tests.conformance.views_leases.MortalStore"}}
    yield
    bank.clear()


class Interrupted(BaseException):
    """Ends a worker in the middle of a request, as its time-out does."""


def returning(status: int) -> Ending:
    return lambda request: Response({"status": status}, status=status)


def raising(error: BaseException) -> Ending:
    def ending(request: Request) -> HttpResponseBase:
        raise error

    return ending


def send(caller: Caller, path: str, body: Any = None, *, key: str, ending: Ending) -> int | None:
    """Send a request that ends like this, its view having written a row; return the status, None for no answer."""
    with scripted(ending) as script:
        try:
            return int(caller.post(path, body, key=key).status_code)
        except (Interrupted, SystemExit, KeyboardInterrupt, Killed):
            return None
        finally:
            assert script.calls == 1


def assert_free(caller: Caller, path: str, key: str, body: Any = None) -> None:
    """Nothing is left of the first request, and its key runs as if it were new."""
    assert rows() == (0, 0)
    with scripted() as script:
        response = caller.post(path, body, key=key)
    assert (response.status_code, script.calls, rows()) == (201, 1, (1, 1))
    assert "Idempotent-Replayed" not in response


def assert_unknown(response: Any) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"], problem["retryable"]) == (409, "outcome-unknown", False)
    assert problem["type"] == "http://testserver/idempotency/problems/outcome-unknown/"
    assert "Retry-After" not in response


def test_a4_47_a_retry_under_a_lease_replays_status_and_bytes_without_the_view(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        first, again = (alice.post("/leased/", {"amount": 3}, key=key) for _ in range(2))
        mismatch = alice.post("/leased/", {"amount": 4}, key=key)
    assert (first.status_code, first.has_header("Idempotent-Replayed")) == (201, False)
    assert (again.status_code, again.content, again["Idempotent-Replayed"]) == (201, first.content, "true")
    assert first["Idempotency-Expires"] == again["Idempotency-Expires"]
    assert (mismatch.status_code, script.calls, rows()) == (422, 1, (1, 1))


def test_a4_49_a_duplicate_of_a_lease_in_flight_gets_409_at_once_and_a_mismatch_422(
    alice: Caller, moments: Moments
) -> None:
    key, gate = new_key(), Gate()
    moments.at("call", gate)
    with other_sessions() as start:
        first = start(twin(alice).post, "/payouts/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        duplicate = alice.post("/payouts/", {"amount": 3}, key=key)
        mismatch = alice.post("/payouts/", {"amount": 4}, key=key)
        assert not first.done()
        gate.open()
        assert first.result(PATIENCE).status_code == 201
    assert (duplicate.status_code, duplicate.json()["code"], duplicate["Retry-After"]) == (409, "in-progress", "17")
    assert (mismatch.status_code, mismatch.json()["code"]) == (422, "key-reused")
    assert (len(bank.keys), rows()) == (1, (1, 1))


def test_a4_49_also_while_the_view_has_written_a_duplicate_gets_409_at_once_and_a_mismatch_422(
    alice: Caller, moments: Moments
) -> None:
    key, gate = new_key(), Gate()
    moments.at("after write", gate)
    with other_sessions() as start:
        first = start(twin(alice).post, "/payouts/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        with impatient():
            mismatch = alice.post("/payouts/", {"amount": 4}, key=key)
        with impatient():
            duplicate = alice.post("/payouts/", {"amount": 3}, key=key)
        gate.open()
        assert first.result(PATIENCE).status_code == 201
    assert (duplicate.status_code, mismatch.status_code) == (409, 422)


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/waiting-payouts/", {}), ("/payouts/", {"Prefer": "wait=20"})],
    ids=["policy", "prefer"],
)
def test_a4_49_a_duplicate_of_a_lease_waits_and_replays_where_it_is_asked_to(
    alice: Caller, moments: Moments, path: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, gate, waiting = new_key(), Gate(), Event()
    moments.at("call", gate)
    monkeypatch.setattr(DatabaseStore, "rest", lambda store: waiting.set())
    with other_sessions() as start:
        first = start(twin(alice).post, path, key=key)
        gate.wait_until_reached()
        duplicate = start(twin(alice).post, path, key=key, headers=headers)
        assert waiting.wait(PATIENCE)
        assert not duplicate.done()
        gate.open()
        winner, waiter = first.result(PATIENCE), duplicate.result(PATIENCE)
    assert (winner.status_code, waiter.status_code, waiter["Idempotent-Replayed"]) == (201, 201, "true")
    assert (winner.content, len(bank.keys), rows()) == (waiter.content, 1, (1, 1))


def test_a4_49_who_waits_for_a_holder_that_was_killed_takes_over(alice: Caller, moments: Moments) -> None:
    key = new_key()
    moments.once_at("after step", kill)
    with pytest.raises(Killed):
        alice.post("/mortal-payouts/", key=key)
    retry = alice.post("/mortal-payouts/", key=key, headers={"Prefer": "wait=20"})
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))


def test_a4_53_a_raised_validation_error_lets_a_corrected_body_run(alice: Caller) -> None:
    for path in ("/leased/", "/unknown/"):
        key = new_key()
        assert send(alice, path, {"amount": 3}, key=key, ending=raising(ValidationError("too much"))) == 400
        assert_free(alice, path, key, {"amount": 2})
        Payment.objects.all().delete()
        Record.objects.all().delete()


@pytest.mark.parametrize(
    "ending",
    [returning(500), returning(503), raising(APIException()), raising(LookupError("a defect of the view"))],
    ids=["500", "503", "APIException", "LookupError"],
)
@pytest.mark.parametrize("path", ["/leased/", "/leased-raised/"])
def test_a4_54_a_failure_under_a_lease_is_rolled_back_and_frees_the_key_at_once(
    alice: Caller, path: str, ending: Ending
) -> None:
    key = new_key()
    assert (send(alice, path, key=key, ending=ending) or 0) >= 500
    assert_free(alice, path, key)


@pytest.mark.parametrize(
    "ending",
    [
        returning(503),
        raising(APIException()),
        raising(LookupError("a defect of the view")),
        raising(Interrupted()),
        raising(Killed()),
    ],
    ids=["503", "APIException", "LookupError", "interrupted", "killed"],
)
def test_a4_55_after_a_crash_the_outcome_is_unknown_and_the_view_is_not_run_again(
    alice: Caller, ending: Ending
) -> None:
    key = new_key()
    send(alice, "/unknown/", {"amount": 3}, key=key, ending=ending)
    if Record.objects.get().status == "in_progress":
        assert alice.post("/unknown/", {"amount": 3}, key=key).json()["code"] == "in-progress"
        lapse(key)
    with scripted() as script:
        refusals = [alice.post("/unknown/", {"amount": 3}, key=key) for _ in range(3)]
        mismatch = alice.post("/unknown/", {"amount": 4}, key=key)
    for refusal in refusals:
        assert_unknown(refusal)
    assert len({refusal.content for refusal in refusals}) == 1
    assert (mismatch.status_code, mismatch.json()["code"]) == (422, "key-reused")
    assert (script.calls, Record.objects.get().status, Payment.objects.count()) == (0, "unknown", 0)


def test_a4_55_a_mismatch_meets_a_lapsed_lease_with_422(alice: Caller) -> None:
    key = new_key()
    send(alice, "/unknown/", {"amount": 3}, key=key, ending=raising(Killed()))
    lapse(key)
    with scripted() as script:
        assert alice.post("/unknown/", {"amount": 4}, key=key).status_code == 422
    assert (script.calls, Record.objects.get().status) == (0, "in_progress")


@pytest.mark.parametrize("ending", [raising(Throttled()), returning(429)], ids=["raised", "returned"])
def test_a4_55_an_answer_that_is_no_failure_is_no_crash_either(alice: Caller, ending: Ending) -> None:
    key = new_key()
    assert send(alice, "/unknown/", key=key, ending=ending) == 429
    assert_free(alice, "/unknown/", key)


def test_a4_55_what_the_view_decided_is_replayed_also_where_a_crash_would_be_unknown(alice: Caller) -> None:
    key = new_key()
    assert send(alice, "/unknown/", key=key, ending=returning(402)) == 402
    with scripted() as script:
        again = alice.post("/unknown/", key=key)
    assert (again.status_code, again["Idempotent-Replayed"], script.calls) == (402, "true", 0)


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), Interrupted()], ids=["exit", "ctrl-c", "time-out"]
)
def test_a4_57_an_interruption_frees_the_key_at_once(alice: Caller, error: BaseException) -> None:
    key = new_key()
    assert send(alice, "/leased/", key=key, ending=raising(error)) is None
    assert_free(alice, "/leased/", key)


def test_a4_58_a_raised_error_that_is_kept_survives_its_rollback(alice: Caller) -> None:
    key = new_key()
    assert send(alice, "/leased-raised/", key=key, ending=raising(NotFound())) == 404
    with scripted() as script:
        again = alice.post("/leased-raised/", key=key)
    assert (again.status_code, again["Idempotent-Replayed"], script.calls, rows()) == (404, "true", 0, (0, 1))


@pytest.mark.parametrize("atomic", [False, True])
def test_a4_58_the_view_runs_in_one_transaction_whatever_atomic_requests_says(alice: Caller, atomic: bool) -> None:
    seen: list[Any] = []

    def look(request: Request) -> Response:
        seen.append((connection.in_atomic_block, len(connection.savepoint_ids)))
        raise ValidationError("too much")

    with atomic_requests(atomic):
        key = new_key()
        assert send(alice, "/leased/", key=key, ending=look) == 400
        assert_free(alice, "/leased/", key)
    assert seen == [(True, 0)]

"""A4: states, errors, retries."""

from __future__ import annotations

from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponseBase, HttpResponseRedirect
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.policies import NEVER_KEPT
from django_idempotency.core.records import Claim, Operation
from django_idempotency.models import Record
from django_idempotency.stores import get_store
from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
from tests.callers import Caller, new_key
from tests.conformance.views_responses import created, elsewhere, impatient, in_flight, scripted
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_responses")

WINNER = Outcome(status=201, headers=(("Content-Type", "application/json"),), body=b'{"winner": true}')


def complete_as_rival(operation: Operation) -> None:
    """Complete an operation and commit, as somebody else who has claimed it too."""
    store = get_store()
    with store.transaction():
        store.complete(Claim(operation=operation), WINNER, ttl=timedelta(hours=1))


class ForgetfulStore(DatabaseStore):
    """Loses the claim to a rival as often as it is told; each time the rival's record is gone before it can be read."""

    def __init__(self, *, losses: int) -> None:
        super().__init__()
        self.losses = losses

    def transaction(self) -> DatabaseTransaction:
        Record.objects.all().delete()
        return super().transaction()

    def complete(self, claim: Claim, outcome: Outcome, *, ttl: timedelta, last: bool = False) -> Any:
        if self.losses:
            self.losses -= 1
            elsewhere(lambda: DatabaseStore().complete(claim, WINNER, ttl=ttl))
        return super().complete(claim, outcome, ttl=ttl, last=last)


def returning(status: int, **options: Any) -> Any:
    return lambda request: Response({"status": status}, status=status, **options)


def raising(error: BaseException) -> Any:
    def ending(request: Request) -> HttpResponseBase:
        raise error

    return ending


def assert_released(caller: Caller, path: str, key: str) -> None:
    """Nothing was kept of the first request: not its payment, not its key, which runs as if it were new."""
    assert Payment.objects.count() == 0
    assert Record.objects.count() == 0
    with scripted() as script:
        response = caller.post(path, key=key)
    assert (response.status_code, script.calls) == (201, 1)
    assert "Idempotent-Replayed" not in response
    assert Payment.objects.count() == 1


def test_a4_46_the_first_request_is_answered_normally_and_not_marked(alice: Caller) -> None:
    with scripted() as script:
        without = alice.post("/success/")
        first = alice.post("/success/", key=new_key())
    assert (without.status_code, first.status_code, script.calls) == (201, 201, 2)
    assert first.json().keys() == without.json().keys()
    assert "Idempotent-Replayed" not in first


@pytest.mark.parametrize("status", [200, 201, 202, 303, 409])
def test_a4_47_a_retry_replays_status_and_bytes_without_the_view(alice: Caller, status: int) -> None:
    key = new_key()

    def ending(request: Request) -> Response:
        response = created(request)
        response.status_code = status
        return response

    with scripted(ending) as script:
        first = alice.post("/required/", {"amount": 3}, key=key)
        retries = [alice.post("/required/", {"amount": 3}, key=key) for _ in range(2)]
    assert script.calls == 1
    assert Payment.objects.count() == 1
    assert first.status_code == status
    for retry in retries:
        assert (retry.status_code, retry.content) == (status, first.content)
        assert retry["Idempotent-Replayed"] == "true"


def test_a4_48_a_replay_is_a_snapshot_even_if_the_resource_has_changed(alice: Caller) -> None:
    key = new_key()
    with scripted():
        first = alice.post("/model/", {"amount": 3}, key=key)
        Payment.objects.update(amount=4)
        assert alice.post("/model/", {"amount": 3}, key=key).content == first.content
        Payment.objects.all().delete()
        assert alice.post("/model/", {"amount": 3}, key=key).content == first.content
    assert first.json()["amount"] == 3
    assert Payment.objects.count() == 0


def test_a4_49_a_duplicate_in_flight_gets_409_and_retry_after_at_once(alice: Caller) -> None:
    key = new_key()
    with in_flight(alice, "/patient/", key=key) as flight:
        with impatient():
            duplicate = alice.post("/patient/", key=key)
        assert not flight.response.done()
        flight.land()
        first = flight.response.result()
    assert (duplicate.status_code, duplicate["Retry-After"]) == (409, "17")
    assert duplicate.json()["code"] == "in-progress"
    assert (first.status_code, flight.script.calls) == (201, 1)
    assert alice.post("/patient/", key=key).content == first.content
    assert Payment.objects.count() == 1


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("path", "headers"), [("/waiting/", {}), ("/required/", {"Prefer": "wait=5"})], ids=["policy", "prefer"]
)
def test_a4_49_a_duplicate_in_flight_waits_and_replays_where_it_is_asked_to(
    alice: Caller, path: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    waiting = Event()
    monkeypatch.setattr(DatabaseStore, "rest", lambda store: waiting.set())
    with in_flight(alice, path, key=key) as flight:
        duplicate = flight.join(alice, path, key=key, headers=headers)
        assert waiting.wait(30)
        assert not duplicate.done()
        flight.land()
        first, second = flight.response.result(), duplicate.result(30)
    assert (first.status_code, second.status_code, flight.script.calls) == (201, 201, 1)
    assert second.content == first.content
    assert (first.get("Idempotent-Replayed"), second.get("Idempotent-Replayed")) == (None, "true")
    assert Payment.objects.count() == 1


@pytest.mark.postgresql
def test_a4_49_a_duplicate_takes_over_where_the_one_it_waits_for_fails(
    alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    waiting = Event()
    monkeypatch.setattr(DatabaseStore, "rest", lambda store: waiting.set())

    def fail_once(request: Request) -> Response:
        return created(request) if flight.script.calls > 1 else Response(status=503)

    with in_flight(alice, "/waiting/", key=key, ending=fail_once) as flight:
        duplicate = flight.join(alice, "/waiting/", key=key)
        assert waiting.wait(30)
        flight.land()
        first, second = flight.response.result(), duplicate.result(30)
    assert (first.status_code, second.status_code, flight.script.calls) == (503, 201, 2)
    assert Payment.objects.count() == 1


@pytest.mark.postgresql
def test_a4_49_the_wait_is_bounded_whatever_the_policy_or_the_client_asks_for(alice: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY_MAX_WAIT = timedelta(milliseconds=50)
    key = new_key()
    with in_flight(alice, "/waiting/", key=key) as flight:
        asked = alice.post("/waiting/", key=key)
        insisted = alice.post("/waiting/", key=key, headers={"Prefer": "wait=900"})
        assert not flight.response.done()
    assert [(response.status_code, response.json()["code"]) for response in (asked, insisted)] == [
        (409, "in-progress")
    ] * 2
    assert flight.script.calls == 1


def test_a4_49_a_client_may_ask_not_to_wait(alice: Caller) -> None:
    key = new_key()
    with in_flight(alice, "/waiting/", key=key) as flight, impatient():
        duplicate = alice.post("/waiting/", key=key, headers={"Prefer": "wait=0"})
        assert not flight.response.done()
    assert duplicate.status_code == 409


@pytest.mark.sqlite
def test_a4_49_a_duplicate_waits_for_the_write_lock_of_sqlite_and_replays(
    alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    with in_flight(alice, "/required/", key=key) as flight:
        at_the_lock = Event()
        open_transaction = DatabaseStore.transaction
        monkeypatch.setattr(DatabaseStore, "transaction", lambda store: at_the_lock.set() or open_transaction(store))
        duplicate = flight.join(alice, "/required/", key=key)
        assert at_the_lock.wait(30)
        flight.land()
        first, second = flight.response.result(), duplicate.result(30)
    assert (first.status_code, second.status_code, flight.script.calls) == (201, 201, 1)
    assert second.content == first.content
    assert Payment.objects.count() == 1


@pytest.mark.postgresql
def test_a4_50_who_lost_to_a_winner_that_has_completed_replays_it(alice: Caller) -> None:
    key = new_key()

    def overtaken(request: Request) -> Response:
        operation = request.idempotency.operation
        elsewhere(lambda: complete_as_rival(operation))
        return created(request)

    with scripted(overtaken) as script:
        loser = alice.post("/required/", key=key)
    assert script.calls == 1
    assert (loser.status_code, loser.content) == (201, WINNER.body)
    assert loser["Idempotent-Replayed"] == "true"
    assert Payment.objects.count() == 0
    again = alice.post("/required/", key=key)
    assert again.content == loser.content
    assert again.headers == loser.headers


@pytest.mark.postgresql
def test_a4_50_who_lost_replays_the_winner_also_after_an_error_that_would_have_been_kept(alice: Caller) -> None:
    def overtaken(request: Request) -> Response:
        operation = request.idempotency.operation
        elsewhere(lambda: complete_as_rival(operation))
        raise NotFound

    with scripted(overtaken):
        loser = alice.post("/raised/", key=new_key())
    assert (loser.status_code, loser.content) == (201, WINNER.body)
    assert Payment.objects.count() == 0


@pytest.mark.postgresql
def test_a4_51_a_record_that_vanished_is_looked_for_once_more_and_the_view_runs_only_claimed(
    alice: Caller, settings: Any
) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": f"{__name__}.ForgetfulStore", "OPTIONS": {"losses": 1}}}
    with scripted() as script:
        response = alice.post("/required/", key=new_key())
    assert (response.status_code, script.calls) == (201, 2)
    assert "Idempotent-Replayed" not in response
    assert Payment.objects.count() == 1
    assert bytes(Record.objects.get().response_body) == response.content


@pytest.mark.postgresql
def test_a4_51_who_keeps_losing_gets_409_and_has_no_effect(alice: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": f"{__name__}.ForgetfulStore", "OPTIONS": {"losses": 9}}}
    with scripted() as script:
        response = alice.post("/required/", key=new_key())
    assert (response.status_code, response.json()["code"]) == (409, "in-progress")
    assert "Retry-After" in response
    assert Payment.objects.count() == 0
    assert script.calls == 2


@pytest.mark.parametrize("status", [200, 204, 302, 400, 402, 404, 409, 410, 422, 451])
def test_a4_52_what_the_view_returned_is_kept_with_its_effects(alice: Caller, status: int) -> None:
    key = new_key()
    with scripted(returning(status)) as script:
        statuses = [alice.post("/required/", key=key).status_code for _ in range(2)]
    assert (statuses, script.calls) == ([status] * 2, 1)
    assert (Payment.objects.count(), Record.objects.get().response_status) == (1, status)


@pytest.mark.parametrize("status", sorted(NEVER_KEPT))
def test_a4_52_answers_about_the_caller_or_the_moment_are_never_kept(alice: Caller, status: int) -> None:
    for path in ("/required/", "/raised/"):
        key = new_key()
        with scripted(returning(status)):
            assert alice.post(path, key=key).status_code == status
        assert_released(alice, path, key)
        Payment.objects.all().delete()
        Record.objects.all().delete()


def test_a4_52_the_statuses_that_are_never_kept_are_the_published_ones() -> None:
    assert {401, 403, 405, 406, 408, 413, 415, 425, 429} <= NEVER_KEPT
    assert not {400, 402, 404, 409, 410, 422} & NEVER_KEPT


def test_a4_52_what_the_framework_answers_before_the_view_is_not_kept(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        answers = [
            alice.post("/no-such-route/", key=key),
            alice.send("PATCH", "/required/", key=key),
            alice.post("/required/", key=key, headers={"Accept": "image/png"}),
            alice.post("/required/", key=key, headers={"Authorization": "Token wrong"}),
        ]
    assert [answer.status_code for answer in answers] == [404, 405, 406, 401]
    assert script.calls == 0
    assert_released(alice, "/required/", key)


def test_a4_52_a_policy_may_keep_success_alone(alice: Caller) -> None:
    key = new_key()
    with scripted(returning(409)):
        assert alice.post("/success/", key=key).status_code == 409
    assert_released(alice, "/success/", key)
    with scripted(lambda request: HttpResponseRedirect("/elsewhere/")) as script:
        key = new_key()
        assert [alice.post("/success/", key=key).status_code for _ in range(2)] == [302, 302]
    assert script.calls == 1


def test_a4_53_validation_errors_are_not_kept_so_the_corrected_request_runs(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        wrong = alice.post("/model/", {"amount": "three"}, key=key)
        right = alice.post("/model/", {"amount": 3}, key=key)
        again = alice.post("/model/", {"amount": 3}, key=key)
    assert (wrong.status_code, right.status_code) == (400, 201)
    assert again.content == right.content
    assert (Payment.objects.count(), script.calls) == (1, 1)


def test_a4_53_effects_before_a_raised_validation_error_are_rolled_back(alice: Caller) -> None:
    key = new_key()
    with scripted(raising(ValidationError({"amount": ["too much"]}))):
        assert alice.post("/required/", key=key).status_code == 400
    assert_released(alice, "/required/", key)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("path", ["/required/", "/raised/", "/success/"])
def test_a4_54_a_returned_5xx_is_rolled_back_and_releases_the_key(alice: Caller, status: int, path: str) -> None:
    key = new_key()
    with scripted(returning(status)):
        response = alice.post(path, key=key)
    assert (response.status_code, response.json()) == (status, {"status": status})
    assert_released(alice, path, key)


@pytest.mark.parametrize("path", ["/required/", "/raised/"])
def test_a4_54_a_raised_5xx_is_rolled_back_and_releases_the_key(alice: Caller, path: str) -> None:
    key = new_key()
    with scripted(raising(APIException())):
        assert alice.post(path, key=key).status_code == 500
    assert_released(alice, path, key)


@pytest.mark.parametrize("path", ["/required/", "/raised/"])
def test_a4_56_after_an_unhandled_exception_the_key_is_usable_at_once(alice: Caller, path: str) -> None:
    key = new_key()
    with scripted(raising(ArithmeticError("a bug"))) as script:
        assert alice.post(path, key=key).status_code == 500
    assert script.calls == 1
    assert_released(alice, path, key)


class Disconnected(BaseException):
    """As asyncio.CancelledError or gevent.Timeout: not an Exception."""


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, Disconnected])
@pytest.mark.parametrize("path", ["/required/", "/raised/"])
def test_a4_57_the_end_of_the_worker_counts_as_a_crash(alice: Caller, error: type[BaseException], path: str) -> None:
    key = new_key()
    with scripted(raising(error())) as script, pytest.raises(error):
        alice.post(path, key=key)
    assert script.calls == 1
    assert not connection.in_atomic_block
    assert_released(alice, path, key)


def test_a4_58_a_raised_4xx_that_is_kept_survives_the_rollback_of_its_effects(alice: Caller) -> None:
    key = new_key()
    with scripted(raising(NotFound("no such account"))) as script:
        first, again = (alice.post("/raised/", key=key) for _ in range(2))
    assert (first.status_code, again.status_code, script.calls) == (404, 404, 1)
    assert again.content == first.content
    assert (again["Idempotent-Replayed"], Payment.objects.count()) == ("true", 0)


def test_a4_58_a_raised_4xx_is_not_kept_unless_the_policy_asks(alice: Caller) -> None:
    for path in ("/required/", "/success/"):
        key = new_key()
        with scripted(raising(NotFound())):
            assert alice.post(path, key=key).status_code == 404
        assert_released(alice, path, key)
        Payment.objects.all().delete()
        Record.objects.all().delete()


def test_a4_59_the_same_mismatch_gets_the_same_422_every_time(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        first = alice.post("/required/", {"amount": 3}, key=key)
        refusals = [alice.post("/required/", {"amount": 4}, key=key) for _ in range(3)]
        replay = alice.post("/required/", {"amount": 3}, key=key)
    assert {refusal.status_code for refusal in refusals} == {422}
    assert len({refusal.content for refusal in refusals}) == 1
    assert refusals[0].json()["code"] == "key-reused"
    assert replay.content == first.content
    assert (script.calls, Payment.objects.count()) == (1, 1)


def test_a4_60_each_problem_says_whether_to_retry_and_its_headers_agree(alice: Caller) -> None:
    key = new_key()
    with in_flight(alice, "/required/", key=key), impatient():
        in_progress = alice.post("/required/", key=key)
    missing = alice.post("/required/")
    malformed = alice.post("/required/", key="no uuid")
    reused = alice.post("/required/", {"amount": 4}, key=key)
    problems = {response.json()["code"]: response for response in (in_progress, missing, malformed, reused)}
    assert {code: problem.json()["retryable"] for code, problem in problems.items()} == {
        "in-progress": True,
        "missing-key": False,
        "malformed-key": False,
        "key-reused": False,
    }
    for problem in problems.values():
        retryable = problem.json()["retryable"]
        assert problem["Idempotency-Should-Retry"] == ("true" if retryable else "false")
        assert ("Retry-After" in problem) is retryable

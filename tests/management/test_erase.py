"""``idempotency_erase`` blanks what is known of a subject; a retry is told so, and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.http import HttpResponse, HttpResponseBase
from rest_framework.request import Request

from django_idempotency.models import Record
from django_idempotency.signals import decision_made
from django_idempotency.stores import get_store
from django_idempotency.testing import make_operation
from tests.callers import Caller, new_key
from tests.campaigns.redis_faults import patiently_cached
from tests.conformance.urls_protection import SECRET, SteppingView
from tests.conformance.views_responses import elsewhere, scripted
from tests.models import Payment
from tests.stored import columns, in_redis

pytestmark = pytest.mark.urls("tests.conformance.urls_protection")
CANARY = "canary-of-the-response"
PATHS = ["/full/", "/encrypted/", "/leased/", "/hash/", "/none/"]


def secretive(request: Request) -> HttpResponseBase:
    return HttpResponse(CANARY, status=201, headers={"Location": f"/{CANARY}/"})


def erase(*arguments: str) -> tuple[int, Any]:
    """Return the exit code and what was printed."""
    output = StringIO()
    try:
        call_command("idempotency_erase", *arguments, "--json", stdout=output)
    except CommandError as error:
        return error.returncode, json.loads(output.getvalue() or "null")
    return 0, json.loads(output.getvalue())


def because(*arguments: str) -> tuple[int, Any]:
    return erase(*arguments, "--reason", "the subject asks for it")


def scope(caller: Caller) -> str:
    return f"auth.user:{caller.user.pk}"


@contextmanager
def decisions() -> Iterator[list[dict[str, Any]]]:
    facts: list[dict[str, Any]] = []

    def listen(signal: object, **told: Any) -> None:
        facts.append(told)

    decision_made.connect(listen)
    try:
        yield facts
    finally:
        decision_made.disconnect(listen)


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize("path", PATHS)
def test_a11_129_the_tombstone_stays_so_that_a_retry_runs_nothing(alice: Caller, path: str) -> None:
    key = new_key()
    with scripted(secretive) as script:
        alice.post(path, key=key)
        Record.objects.update(request_id=CANARY, about=CANARY)
        with decisions() as facts:
            assert because("--scope", scope(alice)) == (0, {"erased": 1, "unsettled": [], "dry_run": False})
        for _ in range(2):
            assert refusal(alice.post(path, key=key)) == (409, "response-not-replayable")
        assert refusal(alice.post(path, {"amount": 4}, key=key)) == (422, "key-reused")
    assert script.calls == Payment.objects.count() == Record.objects.count() == 1
    assert not [secret for secret in (CANARY, key) if secret.encode() in columns()]
    record = Record.objects.get()
    assert (record.response_status, record.outcome_hash) == (201, None)
    ((fact),) = facts
    assert fact["action"] == "erased"
    assert (fact["scope"], fact["digest"], fact["using"]) == (scope(alice), bytes(record.digest), "default")
    assert fact["reason"] == "the subject asks for it"
    assert fact["actor"].startswith("user:")


@pytest.mark.parametrize("path", PATHS)
def test_a11_129_the_copy_in_redis_goes_with_it(alice: Caller, path: str) -> None:
    key = new_key()
    with patiently_cached() as client, scripted(secretive) as script:
        alice.post(path, key=key)
        assert client.keys("*")
        because("--scope", scope(alice))
        assert client.keys("*") == []
        for _ in range(2):
            assert refusal(alice.post(path, key=key)) == (409, "response-not-replayable")
        assert CANARY.encode() not in in_redis(client)
    assert script.calls == 1


def test_a11_129_the_results_of_steps_go_too(alice: Caller, settings: Any) -> None:
    key = new_key()
    assert alice.post("/stepping/", key=key).json() == {"token": SECRET}
    record = Record.objects.get()
    record.steps = [{**step, "result": SECRET, "sealed_with": ""} for step in record.steps]
    record.save()
    assert SECRET.encode() in columns()
    because("--scope", scope(alice))
    calls = SteppingView.calls
    assert refusal(alice.post("/stepping/", key=key)) == (409, "response-not-replayable")
    assert (SECRET.encode() in columns(), SteppingView.calls) == (False, calls)


def test_others_keep_what_is_theirs(alice: Caller, bob: Caller) -> None:
    key = new_key()
    with scripted() as script:
        theirs = bob.post("/full/", key=key)
        alice.post("/full/", key=key)
        because("--scope", scope(alice), "--batch-size", "1")
        assert bob.post("/full/", key=key).content == theirs.content
    assert script.calls == 2


def test_by_their_keys_single_records_are_erased(alice: Caller) -> None:
    keys = [new_key() for _ in range(3)]
    with scripted():
        bodies = [alice.post("/full/", key=key).content for key in keys]
        assert because("--key", *keys[:2])[1]["erased"] == 2
        answers = [alice.post("/full/", key=key) for key in keys]
    assert [answer.status_code for answer in answers] == [409, 409, 201]
    assert answers[2].content == bodies[2]
    assert because("--key", keys[0])[0] == 3


def test_keys_that_are_not_kept_are_found_by_scope_and_operation(alice: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY_STORE_KEYS = "digest"
    key = new_key()
    with scripted():
        alice.post("/full/", key=key)
        assert because("--key", key) == (3, None)
        named = ("--key", key, "--scope", scope(alice), "--operation", "POST full")
        assert because(*named)[1]["erased"] == 1
        assert alice.post("/full/", key=key).status_code == 409
        assert because(*named) == (0, {"erased": 0, "unsettled": [], "dry_run": False})


def test_what_is_not_completed_is_named_and_left_alone(alice: Caller) -> None:
    day = timedelta(days=1)
    operation = make_operation(scope=scope(alice))
    get_store().reserve(operation, lease=day, ttl=day)
    code, facts = because("--scope", scope(alice))
    assert (code, facts) == (4, {"erased": 0, "unsettled": [operation.key.digest.hex()], "dry_run": False})
    assert Record.objects.get().key == operation.key.value


def test_a_dry_run_changes_and_tells_nothing(alice: Caller) -> None:
    key = new_key()
    with scripted():
        body = alice.post("/full/", key=key).content
        with decisions() as facts:
            assert erase("--scope", scope(alice), "--dry-run") == (
                0,
                {"erased": 1, "unsettled": [], "dry_run": True},
            )
        assert alice.post("/full/", key=key).content == body
    assert facts == []


def test_a_second_run_drops_copies_and_tells_nothing(alice: Caller) -> None:
    with patiently_cached() as client, scripted(secretive):
        key = new_key()
        alice.post("/full/", key=key)
        ((name),) = client.keys("*")
        copy = client.get(name)
        because("--scope", scope(alice))
        client.set(name, copy)  # as a request that was under way might do
        with decisions() as facts:
            assert because("--scope", scope(alice))[1]["erased"] == 0
        assert client.keys("*") == []
    assert facts == []


def test_a_listener_that_raises_undoes_it(alice: Caller) -> None:
    key = new_key()
    with scripted():
        body = alice.post("/full/", key=key).content

        def refuse(**facts: Any) -> None:
            raise ArithmeticError

        decision_made.connect(refuse)
        try:
            with pytest.raises(ArithmeticError):
                because("--scope", scope(alice))
        finally:
            decision_made.disconnect(refuse)
        assert alice.post("/full/", key=key).content == body


@pytest.mark.postgresql
def test_others_see_the_decision_and_the_erasure_at_once(alice: Caller) -> None:
    seen: list[Any] = []

    def look(**facts: Any) -> None:
        seen.append(elsewhere(lambda: Record.objects.get().response_body is None))

    with scripted():
        alice.post("/full/", key=new_key())
    decision_made.connect(look)
    try:
        because("--scope", scope(alice))
    finally:
        decision_made.disconnect(look)
    assert seen == [False]
    assert elsewhere(lambda: Record.objects.get().response_body is None)
    assert not transaction.get_connection().in_atomic_block


@pytest.mark.parametrize(
    "arguments", [["--reason=x"], ["--scope=x"], ["--scope=x", "--reason=x", "--batch-size=0"], ["--key", "x"]]
)
def test_a_senseless_argument_is_an_error(alice: Caller, arguments: list[str]) -> None:
    assert erase(*arguments) == (1, None)

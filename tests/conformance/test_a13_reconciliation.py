"""A13: operations of unknown outcome, and who finds out about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions
from tests.conformance.views_leases import Killed, assert_unknown, bank, break_off, fail, kill, lapse, reconciler, steps
from tests.conformance.views_responses import twin
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_leases")


@pytest.fixture(autouse=True)
def _mortal_store(settings: Any) -> Iterator[None]:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "tests.conformance.views_leases.MortalStore"}}
    yield
    bank.clear()
    reconciler.clear()


def test_a13_142_what_a_reconciler_finds_done_is_replayed(alice: Caller) -> None:
    key = new_key()
    break_off(alice, "/reconciled/", "call", key=key)
    reconciler.answer = lambda: HttpResponse(b"found", status=201, headers={"Location": "/payments/7/"})
    found, again = (alice.post("/reconciled/", {"amount": 3}, key=key) for _ in range(2))
    for answer in (found, again):
        assert (answer.status_code, answer.content, answer["Location"]) == (201, b"found", "/payments/7/")
        assert answer["Idempotent-Replayed"] == "true"
    assert (len(reconciler.asked), len(bank.keys), rows()) == (1, 1, (0, 1))


def test_a13_142_what_a_reconciler_finds_not_done_is_run(alice: Caller) -> None:
    key = new_key()
    break_off(alice, "/reconciled/", "call", key=key, dies=True)
    reconciler.answer = lambda: "not_done"
    retry = alice.post("/reconciled/", {"amount": 3}, key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed")) == (201, False)
    assert (len(reconciler.asked), len(bank.keys), rows()) == (1, 2, (1, 1))


def test_a13_142_what_a_reconciler_cannot_tell_stays_unknown(alice: Caller) -> None:
    key = new_key()
    break_off(alice, "/reconciled/", "call", key=key)
    assert_unknown(alice.post("/reconciled/", {"amount": 3}, key=key))
    assert_unknown(alice.post("/reconciled/", {"amount": 3}, key=key))
    assert (len(reconciler.asked), len(bank.keys), rows()) == (2, 1, (0, 1))
    assert steps() == [("transfer", False)]


def test_a13_142_a_reconciler_that_fails_leaves_the_outcome_unknown(alice: Caller) -> None:
    key = new_key()
    break_off(alice, "/reconciled/", "call", key=key)
    reconciler.answer = fail
    assert alice.post("/reconciled/", {"amount": 3}, key=key).status_code == 500
    assert (Record.objects.get().status, steps()) == ("unknown", [("transfer", False)])
    assert alice.post("/reconciled/", {"amount": 4}, key=key).status_code == 422
    reconciler.answer = lambda: None
    assert_unknown(alice.post("/reconciled/", {"amount": 3}, key=key))
    assert len(bank.keys) == 1


def test_a13_142_one_at_a_time_reconciles(alice: Caller) -> None:
    key, gate = new_key(), Gate()
    break_off(alice, "/reconciled/", "call", key=key)
    reconciler.answer = lambda: gate() or HttpResponse(b"found", status=201)
    with other_sessions() as start:
        first = start(twin(alice).post, "/reconciled/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        second = alice.post("/reconciled/", {"amount": 3}, key=key)
        gate.open()
        assert first.result(PATIENCE).status_code == 201
    assert (second.status_code, second.json()["code"], len(reconciler.asked)) == (409, "in-progress", 1)


def test_a13_142_a_reconciler_that_is_killed_is_asked_again(alice: Caller) -> None:
    key = new_key()
    break_off(alice, "/reconciled/", "call", key=key)
    reconciler.answer = kill
    with pytest.raises(Killed):
        alice.post("/reconciled/", {"amount": 3}, key=key)
    lapse(key)
    reconciler.answer = lambda: HttpResponse(b"found", status=201)
    assert alice.post("/reconciled/", {"amount": 3}, key=key).content == b"found"
    assert (len(reconciler.asked), len(bank.keys), rows()) == (2, 1, (0, 1))

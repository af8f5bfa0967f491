"""A13: keys for providers, and steps whose results outlive their attempt."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from rest_framework.exceptions import APIException, Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.exceptions import NotDone
from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.sessions import (
    PATIENCE,
    Gate,
    atomic_requests,
    other_sessions,
    seen_from_outside,
)
from tests.conformance.views_databases import Moments
from tests.conformance.views_leases import assert_unknown, bank, break_off, steps
from tests.conformance.views_responses import scripted, twin
from tests.models import Payment
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_leases")


@pytest.fixture(autouse=True)
def _mortal_store(settings: Any) -> Iterator[None]:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "tests.conformance.views_leases.MortalStore"}}
    yield
    bank.clear()


def derived_keys(caller: Caller, path: str, *, key: str, status: int = 201) -> list[str]:
    """Return the keys that a view derives for three purposes; let it end with this status."""
    keys: list[str] = []

    def ending(request: Request) -> Response:
        derive = request.idempotency.derive_key
        keys.extend([derive("bank"), derive("mail"), derive("bank", "refund")])
        return Response(status=status)

    with scripted(ending):
        assert caller.post(path, {"amount": 3}, key=key).status_code == status
    return keys


# 141: derived keys


@pytest.mark.parametrize("path", ["/leased/", "/switching/"])
def test_a13_141_a_derived_key_is_the_same_in_each_attempt(alice: Caller, path: str) -> None:
    key = new_key()
    first, second = (derived_keys(alice, path, key=key, status=status) for status in (503, 201))
    assert first == second


def test_a13_141_derived_keys_differ_by_provider_purpose_scope_operation_and_key(alice: Caller, bob: Caller) -> None:
    key = new_key()
    keys = [
        *derived_keys(alice, "/leased/", key=key),
        *derived_keys(bob, "/leased/", key=key),
        *derived_keys(alice, "/switching/", key=key),
        *derived_keys(alice, "/leased/", key=new_key()),
    ]
    assert len(set(keys)) == len(keys) == 12
    assert {uuid.UUID(derived).version for derived in keys} == {8}
    assert not [derived for derived in keys if key[:8] in derived]


@pytest.mark.parametrize("dies", [False, True])
def test_a13_141_a_derived_key_outlives_a_rotation_of_secrets_between_two_attempts(
    alice: Caller, moments: Moments, settings: Any, dies: bool
) -> None:
    key = new_key()
    settings.IDEMPOTENCY_SECRETS = ["old"]
    break_off(alice, "/payouts/", "call", key=key, dies=dies)
    settings.IDEMPOTENCY_SECRETS = ["new", "old"]
    assert alice.post("/payouts/", {"amount": 3}, key=key).status_code == 201
    assert (len(bank.keys), len(set(bank.keys))) == (2, 1)
    assert alice.post("/payouts/", {"amount": 3}, key=new_key()).status_code == 201
    settings.IDEMPOTENCY_SECRETS = ["new"]
    assert alice.post("/payouts/", {"amount": 3}, key=new_key()).status_code == 201
    assert len(set(bank.keys)) == 3


def test_a13_141_a_derived_key_outlives_a_rotation_also_where_it_was_used_outside_of_steps(
    alice: Caller, settings: Any
) -> None:
    key = new_key()
    settings.IDEMPOTENCY_SECRETS = ["old"]
    first = derived_keys(alice, "/leased/", key=key, status=503)
    settings.IDEMPOTENCY_SECRETS = ["new", "old"]
    assert derived_keys(alice, "/leased/", key=key) == first


def test_a13_141_a_key_that_can_no_longer_be_derived_is_not_replaced_by_another(
    alice: Caller, moments: Moments, settings: Any
) -> None:
    key = new_key()
    settings.IDEMPOTENCY_SECRETS = ["old"]
    break_off(alice, "/payouts/", "call", key=key)
    settings.IDEMPOTENCY_SECRETS = ["new"]
    assert alice.post("/payouts/", {"amount": 3}, key=key).status_code == 409
    assert (len(bank.keys), rows()) == (1, (0, 1))


# 142: the claim and the step are written before the call


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("path", ["/payouts/", "/keyless/"])
@pytest.mark.parametrize("moment", ["after step", "after write"])
def test_a13_142_a_step_that_is_done_is_not_taken_again(
    alice: Caller, moments: Moments, path: str, moment: str, dies: bool
) -> None:
    key = new_key()
    break_off(alice, path, moment, key=key, dies=dies)
    assert (Payment.objects.count(), steps()) == (0, [("transfer", True)])
    retry = alice.post(path, {"amount": 3}, key=key)
    assert (retry.status_code, retry.json()["reference"], rows()) == (201, "paid 1", (1, 1))
    assert (len(bank.keys), Record.objects.get().attempt) == (1, 2)


@pytest.mark.parametrize("dies", [False, True])
def test_a13_142_a_call_that_broke_off_is_repeated_with_its_key(alice: Caller, moments: Moments, dies: bool) -> None:
    key = new_key()
    break_off(alice, "/payouts/", "call", key=key, dies=dies)
    assert steps() == [("transfer", False)]
    retry = alice.post("/payouts/", {"amount": 3}, key=key)
    assert (retry.status_code, retry.json()["reference"], rows()) == (201, "paid 2", (1, 1))
    assert (len(bank.keys), len(set(bank.keys))) == (2, 1)


@pytest.mark.parametrize("dies", [False, True])
def test_a13_142_a_call_without_a_key_that_broke_off_is_not_repeated(
    alice: Caller, moments: Moments, dies: bool
) -> None:
    key = new_key()
    break_off(alice, "/keyless/", "call", key=key, dies=dies)
    assert_unknown(alice.post("/keyless/", {"amount": 3}, key=key))
    assert alice.post("/keyless/", {"amount": 4}, key=key).status_code == 422
    assert (len(bank.keys), rows()) == (1, (0, 1))


@pytest.mark.parametrize("error", [ValidationError("?"), Throttled(), APIException()], ids=["400", "429", "500"])
def test_a13_142_a_call_without_a_key_that_broke_off_is_not_repeated_whatever_its_error_is_answered_by(
    alice: Caller, moments: Moments, error: Exception
) -> None:
    key = new_key()

    def refuse() -> None:
        raise error

    moments.once_at("call", refuse)
    alice.post("/keyless/", {"amount": 3}, key=key)
    assert_unknown(alice.post("/keyless/", {"amount": 3}, key=key))
    assert (len(bank.keys), rows()) == (1, (0, 1))


@pytest.mark.parametrize("path", ["/payouts/", "/keyless/"])
def test_a13_142_a_call_that_is_known_not_to_be_done_counts_as_not_begun(
    alice: Caller, moments: Moments, path: str
) -> None:
    key = new_key()

    def refuse() -> None:
        raise NotDone

    moments.once_at("call", refuse)
    assert (alice.post(path, {"amount": 3}, key=key).status_code, rows()) == (500, (0, 0))
    assert (alice.post(path, {"amount": 3}, key=key).status_code, len(bank.keys), rows()) == (201, 2, (1, 1))


def test_a13_142_a_step_is_seen_by_others_before_and_after_its_call(alice: Caller, moments: Moments) -> None:
    seen: list[Any] = []
    for moment in ("before step", "call", "after step"):
        moments.at(moment, lambda: seen.append(steps()))
    assert alice.post("/payouts/", key=new_key()).status_code == 201
    assert seen == [[], [("transfer", False)], [("transfer", True)]]


@pytest.mark.postgresql
@pytest.mark.parametrize("atomic", [False, True])
def test_a13_142_a_step_is_seen_by_others_also_once_the_view_has_written(
    alice: Caller, moments: Moments, atomic: bool
) -> None:
    key, seen = new_key(), []
    for moment in ("before step", "call", "after step"):
        moments.at(moment, lambda: seen.append((steps(), seen_from_outside(Payment.objects.count))))
    with atomic_requests(atomic):
        break_off(alice, "/late/", "after step", key=key)
        retry = alice.post("/late/", {"amount": 3}, key=key)
    assert seen == [([], 0), ([("transfer", False)], 0), ([("transfer", True)], 0)]
    assert (retry.status_code, retry.json()["reference"], len(bank.keys), rows()) == (201, "paid 1", 1, (1, 1))


@pytest.mark.sqlite
@pytest.mark.parametrize("atomic", [False, True])
def test_a13_142_on_sqlite_a_step_after_the_first_write_is_refused_and_leaves_nothing(
    alice: Caller, atomic: bool
) -> None:
    with atomic_requests(atomic):
        refused = alice.post("/late/", {"amount": 3}, key=new_key())
    assert isinstance(refused.exc_info[1], RuntimeError)
    assert "SQLite" in str(refused.exc_info[1])
    assert (refused.status_code, bank.keys, rows()) == (500, [], (0, 0))


def test_a13_142_while_a_call_lasts_others_can_write(alice: Caller, bob: Caller, moments: Moments) -> None:
    gate = Gate()
    moments.once_at("call", gate)
    with other_sessions() as start:
        slow = start(twin(alice).post, "/payouts/", key=new_key())
        gate.wait_until_reached()
        assert bob.post("/payouts/", key=new_key()).status_code == 201
        assert not slow.done()
        gate.open()
        assert slow.result(PATIENCE).status_code == 201
    assert (len(bank.keys), rows()) == (2, (2, 2))


# 143: versions; reconciliation


def test_a13_143_a_step_of_another_version_of_the_code_is_not_resumed(alice: Caller, moments: Moments) -> None:
    key = new_key()
    bank.version = "1"
    break_off(alice, "/payouts/", "after step", key=key)
    bank.version = "2"
    assert_unknown(alice.post("/payouts/", {"amount": 3}, key=key))
    assert (len(bank.keys), rows()) == (1, (0, 1))

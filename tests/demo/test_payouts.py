"""Payouts: whatever breaks off between the bank and the database, the bank pays once and one row is written."""

from __future__ import annotations

import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

LEASE = 1.0
PATIENCE = 20.0


def post(client: httpx.Client, user_id: str, key: str = "", amount_cents: Any = 1000, **headers: str) -> httpx.Response:
    headers = {"Idempotency-Key": f'"{key or uuid.uuid4()}"', **headers}
    return client.post("/api/payouts/", json={"user_id": user_id, "amount_cents": amount_cents}, headers=headers)


def insist(client: httpx.Client, user_id: str, key: str) -> httpx.Response:
    """Retry as a client would, until there is an answer that stays."""
    deadline = time.monotonic() + PATIENCE
    while (response := post(client, user_id, key)).status_code != 201 and time.monotonic() < deadline:
        assert response.status_code == 409, response.text
        time.sleep(0.05)
    return response


def books(bank: httpx.Client, user_id: str) -> dict[str, Any]:
    found: dict[str, Any] = bank.get("/ledger", params={"user_id": user_id}).json()
    return found


@pytest.fixture
def assert_paid_once(bank, rows, user_id):
    """Compare what the client was told with the books of the bank and the table."""

    def check(response: httpx.Response, *, calls: int = 1) -> None:
        payout, found = response.json(), books(bank, user_id)
        assert (found["calls"], found["payments"]) == (calls, 1)
        account = {"calls": calls, "payments": 1, "reference": payout["bank_reference"]}
        assert list(found["by_key"].values()) == [account]
        assert rows("demo_payout", user_id) == [payout["id"]]

    return check


def test_a_payout_is_created_with_the_fields_of_the_contract(alice, user_id, assert_paid_once):
    response = post(alice, user_id, amount_cents=1250)
    created = response.json()
    assert response.status_code == 201
    assert set(created) == {"id", "user_id", "amount_cents", "bank_reference", "created_at"}
    assert re.fullmatch(r"po_[0-9a-f]{24}", created["id"])
    assert (created["user_id"], created["amount_cents"]) == (user_id, 1250)
    assert "Location" not in response.headers
    assert_paid_once(response)


def test_a_retry_is_a_replay_and_does_not_call_the_bank(alice, user_id, assert_paid_once):
    key = str(uuid.uuid4())
    first, second = (post(alice, user_id, key) for _ in range(2))
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert_paid_once(first)


def test_the_bank_never_sees_the_key_of_the_client(alice, bank, user_id):
    key = str(uuid.uuid4())
    post(alice, user_id, key)
    (derived,) = books(bank, user_id)["by_key"]
    assert key not in derived


def test_a_key_is_required_and_the_body_is_checked_before_the_bank_is_called(alice, bank, user_id):
    without = alice.post("/api/payouts/", json={"user_id": user_id, "amount_cents": 1})
    assert (without.status_code, without.json()["code"]) == (400, "missing-key")
    assert post(alice, user_id, amount_cents=0).status_code == 400
    assert books(bank, user_id)["calls"] == 0


def test_what_the_server_sets_is_not_the_clients(alice, user_id, assert_paid_once):
    body = {"user_id": user_id, "amount_cents": 1, "bank_reference": "bk_mine", "id": "po_mine"}
    response = alice.post("/api/payouts/", json=body, headers={"Idempotency-Key": f'"{uuid.uuid4()}"'})
    assert_paid_once(response)
    assert response.json()["id"] != "po_mine"


def test_nobody_gets_in_without_a_token(anonymous, bank, user_id):
    assert post(anonymous, user_id).status_code == 401
    assert books(bank, user_id)["calls"] == 0


def test_duplicates_at_the_same_moment_pay_once(alice, user_id, assert_paid_once):
    key = str(uuid.uuid4())
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: insist(alice, user_id, key), range(12)))
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert_paid_once(answers[0])


@pytest.mark.parametrize("fault", ["status:500", "status:402", "lost"])
def test_a_failure_of_the_bank_is_not_kept_and_the_retry_has_the_same_derived_key(
    alice, user_id, fault, assert_paid_once
):
    key = str(uuid.uuid4())
    failed = post(alice, user_id, key, **{"X-Bank-Fault": fault})
    assert failed.status_code == 502
    assert "detail" in failed.json()
    retry = post(alice, user_id, key)
    assert (retry.status_code, "Idempotent-Replayed" in retry.headers) == (201, False)
    assert_paid_once(retry, calls=2)


def test_the_client_gives_up_while_the_bank_is_late(alice, bank, user_id, assert_paid_once):
    key = str(uuid.uuid4())
    with pytest.raises(httpx.ReadTimeout):
        alice.post(
            "/api/payouts/",
            json={"user_id": user_id, "amount_cents": 1000},
            headers={"Idempotency-Key": f'"{key}"', "X-Bank-Fault": "sleep:2.5"},
            timeout=0.5,
        )
    # Longer than the lease: the heartbeat holds it, so that the retries are refused and never call the bank.
    response = insist(alice, user_id, key)
    assert response.headers["Idempotent-Replayed"] == "true"
    assert_paid_once(response)


def test_a_worker_killed_after_the_bank_has_paid_is_taken_over(alice, bank, rows, user_id, assert_paid_once):
    key = str(uuid.uuid4())
    with pytest.raises(httpx.TransportError):
        post(alice, user_id, key, **{"X-Demo-Fault": "kill"})
    died = time.monotonic()
    assert (books(bank, user_id)["payments"], rows("demo_payout", user_id)) == (1, [])
    response = insist(alice, user_id, key)
    assert time.monotonic() - died < LEASE + 3
    assert "Idempotent-Replayed" not in response.headers
    # The step was kept before the row was written: the bank is not even asked again.
    assert_paid_once(response)


@pytest.mark.parametrize(("fault", "status"), [("raise", 500), ("status:503", 503)])
def test_an_error_after_the_bank_has_paid_writes_no_row_and_pays_no_second_time(
    alice, rows, user_id, fault, status, assert_paid_once
):
    key = str(uuid.uuid4())
    assert post(alice, user_id, key, **{"X-Demo-Fault": fault}).status_code == status
    assert rows("demo_payout", user_id) == []
    retry = post(alice, user_id, key)
    assert retry.status_code == 201
    assert_paid_once(retry)


def test_without_demo_faults_the_bank_is_not_told_to_fail(server_without_faults, user_id, assert_paid_once):
    headers = {"Authorization": "Token bob-demo-token"}
    with httpx.Client(base_url=server_without_faults.url, headers=headers, trust_env=False, timeout=4) as bob:
        response = post(bob, user_id, **{"X-Bank-Fault": "status:500", "X-Demo-Fault": "raise"})
    assert response.status_code == 201
    assert_paid_once(response)

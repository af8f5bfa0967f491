"""X-Demo-Fault: obeyed only where asked for, right after the row was written."""

from __future__ import annotations

import time
import uuid

import httpx
import pytest


def post(client: httpx.Client, user_id: str, fault: str, key: str = "") -> httpx.Response:
    return client.post(
        "/api/charges/",
        json={"user_id": user_id, "amount_cents": 1},
        headers={"Idempotency-Key": f'"{key or uuid.uuid4()}"', "X-Demo-Fault": fault},
    )


def rows(client: httpx.Client, user_id: str) -> int:
    count: int = client.get("/api/charges/", params={"user_id": user_id}).json()["count"]
    return count


def test_a_sleep_delays_the_answer(alice, user_id):
    started = time.monotonic()
    assert post(alice, user_id, "sleep:0.4").status_code == 201
    assert time.monotonic() - started >= 0.4


def test_an_exception_rolls_the_row_back(alice, user_id):
    assert post(alice, user_id, "raise").status_code == 500
    assert rows(alice, user_id) == 0


@pytest.mark.parametrize(("status", "written"), [(500, 0), (503, 0), (202, 1), (204, 1), (409, 1)])
def test_a_status_is_returned_and_judged_by_the_policy(alice, user_id, status, written):
    assert post(alice, user_id, f"status:{status}").status_code == status
    assert rows(alice, user_id) == written


def test_a_killed_worker_leaves_nothing_behind(alice, user_id):
    key = str(uuid.uuid4())
    with pytest.raises(httpx.TransportError):
        post(alice, user_id, "kill", key)
    retry = post(alice, user_id, "sleep:0", key)
    assert retry.status_code == 201
    assert rows(alice, user_id) == 1


@pytest.mark.parametrize(
    "fault",
    ["", "sleep", "sleep:", "sleep:nan", "sleep:-1", "sleep:9999", "raise:1", "kill it", "status:99", "status:600"],
)
def test_what_is_no_fault_is_a_client_error(alice, user_id, fault):
    assert post(alice, user_id, fault).status_code == 400
    assert rows(alice, user_id) == 0


@pytest.mark.parametrize("fault", ["sleep:5", "raise", "kill", "status:503", "nonsense"])
def test_without_demo_faults_the_header_is_ignored(server_without_faults, user_id, fault):
    headers = {"Authorization": "Token bob-demo-token"}
    with httpx.Client(base_url=server_without_faults.url, headers=headers, trust_env=False, timeout=4) as bob:
        assert post(bob, user_id, fault).status_code == 201


def test_a_change_meets_faults_too(alice, user_id):
    path = post(alice, user_id, "sleep:0").headers["Location"]
    headers = {"Idempotency-Key": f'"{uuid.uuid4()}"', "X-Demo-Fault": "raise"}
    assert alice.patch(path, json={"amount_cents": 2}, headers=headers).status_code == 500
    assert alice.get(path).json()["amount_cents"] == 1

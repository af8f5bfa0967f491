"""What every endpoint that makes charges keeps to, whatever kind of view it is."""

from __future__ import annotations

import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest

PATIENCE = 20.0


def key() -> str:
    return str(uuid.uuid4())


class ChargeContract:
    """To be inherited by a test class with the path of the endpoint."""

    path: ClassVar[str]

    def post(self, client: httpx.Client, user_id: str, key: str, *, amount_cents: Any = 1000, fault: str = "", **more):
        headers = {"Idempotency-Key": f'"{key}"', **({"X-Demo-Fault": fault} if fault else {})}
        body = {"user_id": user_id, "amount_cents": amount_cents}
        return client.post(self.path, json=body, headers=headers, **more)

    def insist(self, client: httpx.Client, user_id: str, key: str) -> httpx.Response:
        """Retry as a client would, until there is an answer that stays."""
        deadline = time.monotonic() + PATIENCE
        while (response := self.post(client, user_id, key)).status_code == 409 and time.monotonic() < deadline:
            assert response.headers["Retry-After"]
            time.sleep(0.05)
        assert response.status_code == 201, response.text
        return response

    def test_a_charge_is_created_with_the_fields_of_the_contract(self, alice, user_id):
        response = self.post(alice, user_id, key(), amount_cents=1250)
        created = response.json()
        assert response.status_code == 201
        assert set(created) == {"id", "user_id", "amount_cents", "created_at"}
        assert re.fullmatch(r"ch_[0-9a-f]{24}", created["id"])
        assert (created["user_id"], created["amount_cents"]) == (user_id, 1250)
        assert datetime.fromisoformat(created["created_at"]).utcoffset() == timedelta(0)
        assert response.headers["Location"] == f"{alice.base_url}/api/charges/{created['id']}/"
        assert alice.get(response.headers["Location"]).json() == created

    def test_a_retry_is_a_replay(self, alice, rows, user_id):
        used = key()
        first, second = (self.post(alice, user_id, used) for _ in range(2))
        assert "Idempotent-Replayed" not in first.headers
        assert second.headers["Idempotent-Replayed"] == "true"
        assert (second.status_code, second.content) == (first.status_code, first.content)
        assert second.headers["Location"] == first.headers["Location"]
        assert rows("demo_charge", user_id) == [first.json()["id"]]
        assert len(rows("idempotency_outboxevent", user_id)) == 1

    def test_a_key_is_required(self, alice, rows, user_id):
        response = alice.post(self.path, json={"user_id": user_id, "amount_cents": 1})
        assert (response.status_code, response.json()["code"]) == (400, "missing-key")
        assert rows("demo_charge", user_id) == []

    def test_another_amount_is_refused(self, alice, rows, user_id):
        used = key()
        assert self.post(alice, user_id, used, amount_cents=1).status_code == 201
        assert self.post(alice, user_id, used, amount_cents=2).status_code == 422
        assert len(rows("demo_charge", user_id)) == 1

    @pytest.mark.parametrize("amount_cents", [0, -1, 2**31, 1.5, "many", None, True])
    def test_an_amount_is_a_positive_integer(self, alice, rows, user_id, amount_cents):
        response = self.post(alice, user_id, key(), amount_cents=amount_cents)
        assert (response.status_code, set(response.json())) == (400, {"amount_cents"})
        assert rows("demo_charge", user_id) == []

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"user_id": "u", "amount_cents": NaN}'])
    def test_a_body_that_is_no_charge_is_a_client_error(self, alice, body):
        headers = {"Idempotency-Key": f'"{key()}"', "Content-Type": "application/json"}
        assert alice.post(self.path, content=body, headers=headers).status_code == 400

    @pytest.mark.parametrize("credentials", ["", "Token", "Token nobody", "Token a b", "Bearer alice-demo-token"])
    def test_nobody_gets_in_without_a_token(self, anonymous, rows, user_id, credentials):
        headers = {"Idempotency-Key": f'"{key()}"', **({"Authorization": credentials} if credentials else {})}
        response = anonymous.post(self.path, json={"user_id": user_id, "amount_cents": 1}, headers=headers)
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Token")
        assert rows("demo_charge", user_id) == []

    def test_it_only_takes_posts(self, alice):
        assert alice.get(self.path).status_code == 405

    def test_keys_of_two_users_and_of_two_endpoints_do_not_meet(self, alice, rows, user_id):
        used = key()
        hers = self.post(alice, user_id, used)
        body, headers = {"user_id": user_id, "amount_cents": 1000}, {"Idempotency-Key": f'"{used}"'}
        bobs = alice.post(self.path, json=body, headers={**headers, "Authorization": "Token bob-demo-token"})
        elsewhere = alice.post("/api/charges/", json=body, headers=headers)
        ids = {response.json()["id"] for response in (hers, bobs, elsewhere)}
        assert set(rows("demo_charge", user_id)) == ids
        assert len(ids) == 3

    def test_duplicates_at_the_same_moment_write_one_row(self, alice, rows, user_id):
        used = key()
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: self.insist(alice, user_id, used), range(12)))
        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
        assert rows("demo_charge", user_id) == [answers[0].json()["id"]]

    def test_the_row_of_a_client_that_gave_up_is_there_once(self, alice, rows, user_id):
        used = key()
        with pytest.raises(httpx.ReadTimeout):
            self.post(alice, user_id, used, fault="sleep:1.5", timeout=0.3)
        answer = self.insist(alice, user_id, used)
        assert answer.headers["Idempotent-Replayed"] == "true"
        assert rows("demo_charge", user_id) == [answer.json()["id"]]

    def test_a_killed_worker_leaves_one_row_in_the_end(self, alice, rows, user_id):
        used = key()
        with pytest.raises(httpx.TransportError):
            self.post(alice, user_id, used, fault="kill")
        answer = self.insist(alice, user_id, used)
        assert rows("demo_charge", user_id) == [answer.json()["id"]]

    @pytest.mark.parametrize("fault", ["sleep", "status:99", "kill it"])
    def test_what_is_no_fault_is_a_client_error(self, alice, rows, user_id, fault):
        assert self.post(alice, user_id, key(), fault=fault).status_code == 400
        assert rows("demo_charge", user_id) == []

    def test_without_demo_faults_the_header_is_ignored(self, server_without_faults, user_id):
        headers = {"Authorization": "Token bob-demo-token"}
        with httpx.Client(base_url=server_without_faults.url, headers=headers, trust_env=False, timeout=4) as bob:
            assert self.post(bob, user_id, key(), fault="raise").status_code == 201

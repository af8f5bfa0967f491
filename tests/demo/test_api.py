"""The contract of the endpoints, over HTTP."""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest


def key() -> dict[str, str]:
    return {"Idempotency-Key": f'"{uuid.uuid4()}"'}


def charge(client: httpx.Client, user_id: str = "u", amount_cents: int = 1000) -> dict[str, Any]:
    response = client.post("/api/charges/", json={"user_id": user_id, "amount_cents": amount_cents}, headers=key())
    assert response.status_code == 201, response.text
    return response.json()


def test_a_charge_is_created_with_the_fields_of_the_contract(alice):
    response = alice.post("/api/charges/", json={"user_id": "u1", "amount_cents": 1250}, headers=key())
    created = response.json()
    assert response.status_code == 201
    assert set(created) == {"id", "user_id", "amount_cents", "created_at"}
    assert re.fullmatch(r"ch_[0-9a-f]{24}", created["id"])
    assert (created["user_id"], created["amount_cents"]) == ("u1", 1250)
    assert datetime.fromisoformat(created["created_at"]).utcoffset() == timedelta(0)
    assert response.headers["Location"] == f"{alice.base_url}/api/charges/{created['id']}/"
    assert alice.get(response.headers["Location"]).json() == created


def test_a_retry_is_a_replay(alice):
    body, headers = {"user_id": "u2", "amount_cents": 1}, key()
    first, second = (alice.post("/api/charges/", json=body, headers=headers) for _ in range(2))
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["Location"] == first.headers["Location"]


def test_creating_requires_a_key(alice):
    response = alice.post("/api/charges/", json={"user_id": "u", "amount_cents": 1})
    assert response.status_code == 400
    assert response.json()["code"] == "missing-key"
    assert response.json()["type"] == f"{alice.base_url}/idempotency/problems/missing-key/"
    assert alice.get(response.json()["type"]).status_code == 200


@pytest.mark.parametrize("amount_cents", [0, -1, 2**31, 1.5, "many", None, True])
def test_an_amount_is_a_positive_integer(alice, amount_cents):
    response = alice.post("/api/charges/", json={"user_id": "u", "amount_cents": amount_cents}, headers=key())
    assert response.status_code == 400
    assert set(response.json()) == {"amount_cents"}


@pytest.mark.parametrize("user_id", ["", "x" * 65, "\x00", None, {}])
def test_a_user_id_is_a_short_text(alice, user_id):
    response = alice.post("/api/charges/", json={"user_id": user_id, "amount_cents": 1}, headers=key())
    assert response.status_code == 400
    assert set(response.json()) == {"user_id"}


def test_the_list_is_paged_and_narrowed_to_a_user(alice):
    user_id = secrets.token_hex(8)
    made = [charge(alice, user_id, 100 + number) for number in range(3)]
    charge(alice, "somebody-else")
    listed = alice.get("/api/charges/", params={"user_id": user_id}).json()
    assert listed == {"count": 3, "next": None, "previous": None, "results": made[::-1]}
    assert alice.get("/api/charges/").json()["count"] >= 4


def test_long_lists_have_pages(alice):
    user_id = secrets.token_hex(8)
    for _ in range(51):
        charge(alice, user_id)
    first = alice.get("/api/charges/", params={"user_id": user_id}).json()
    assert (first["count"], len(first["results"]), first["previous"]) == (51, 50, None)
    assert len(alice.get(first["next"]).json()["results"]) == 1


def test_a_query_that_no_database_can_hold_is_a_client_error(alice):
    assert alice.get("/api/charges/?user_id=%00").status_code == 400
    assert alice.get("/api/charges/ch_%00/").status_code == 404


def test_a_change_takes_a_key_if_there_is_one(alice):
    path = f"/api/charges/{charge(alice)['id']}/"
    without = alice.patch(path, json={"amount_cents": 2})
    assert (without.status_code, without.json()["amount_cents"]) == (200, 2)
    assert without.headers["Idempotency-Status"] == "unprotected"
    headers = key()
    first, second = (alice.patch(path, json={"amount_cents": 3}, headers=headers) for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert alice.patch(path, json={"amount_cents": 4}, headers=headers).status_code == 422
    assert alice.get(path).json()["amount_cents"] == 3


def test_what_the_server_sets_cannot_be_changed(alice):
    made = charge(alice)
    response = alice.patch(f"/api/charges/{made['id']}/", json={"id": "ch_x", "created_at": "2000-01-01T00:00:00Z"})
    assert response.json() == made


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_charges_are_neither_replaced_nor_deleted(alice, method):
    response = alice.request(method, f"/api/charges/{charge(alice)['id']}/", headers=key())
    assert response.status_code == 405


def test_nobody_gets_in_without_a_token(anonymous):
    assert anonymous.get("/api/charges/").status_code == 401
    assert anonymous.post("/api/charges/", json={"user_id": "u", "amount_cents": 1}, headers=key()).status_code == 401


def test_keys_of_two_users_do_not_meet(alice):
    body, headers = {"user_id": "u3", "amount_cents": 1}, key()
    hers = alice.post("/api/charges/", json=body, headers=headers)
    bobs = alice.post("/api/charges/", json=body, headers={**headers, "Authorization": "Token bob-demo-token"})
    assert hers.status_code == bobs.status_code == 201
    assert hers.json()["id"] != bobs.json()["id"]


def test_the_front_page_and_a_styled_admin_are_served(anonymous):
    assert "alice-demo-token" in anonymous.get("/").text
    page = anonymous.get("/admin/login/").text
    (style,) = re.findall(r'href="(/static/admin/css/base[^"]*\.css)"', page)
    assert anonymous.get(style).headers["Content-Type"].startswith("text/css")


def test_the_admin_shows_charges_and_records(alice, anonymous):
    made = charge(alice, "shown-in-the-admin")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', anonymous.get("/admin/login/").text)
    assert token
    form = {"username": "admin", "password": "admin", "csrfmiddlewaretoken": token[1]}
    assert anonymous.post("/admin/login/?next=/admin/", data=form).status_code == 302
    link = re.search(rf'href="([^"]+)">{made["id"]}<', anonymous.get("/admin/demo/charge/").text)
    assert link
    assert anonymous.get(link[1]).status_code == 200
    assert "POST charge-list" in anonymous.get("/admin/idempotency/record/").text

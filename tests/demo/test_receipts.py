"""``POST /api/receipts/``: rows of their own, one content."""

from __future__ import annotations

import hashlib
import uuid

import httpx


def upload(client: httpx.Client, user_id: str, key: str, text: bytes, name: str = "june.txt", **headers: str):
    return client.post(
        "/api/receipts/",
        data={"user_id": user_id},
        files={"file": (name, text, "text/plain")},
        headers={"Idempotency-Key": f'"{key}"', **headers},
    )


def test_the_same_report_uploaded_twice_is_stored_once(alice, rows, user_id):
    text = f"a report of {user_id}".encode()
    keys = [str(uuid.uuid4()) for _ in range(2)]
    first, second = (upload(alice, user_id, key, text, f"{key}.txt") for key in keys)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["digest"] == second.json()["digest"] == f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert [answer.json()["is_new"] for answer in (first, second)] == [True, False]
    assert [answer.json()["file_name"] for answer in (first, second)] == [f"{key}.txt" for key in keys]
    assert sorted(rows("demo_receipt", user_id)) == sorted(answer.json()["id"] for answer in (first, second))


def test_a_retry_is_a_replay_and_another_report_under_its_key_is_refused(alice, rows, user_id):
    key = str(uuid.uuid4())
    first, second = (upload(alice, user_id, key, user_id.encode()) for _ in range(2))
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.content == first.content
    assert upload(alice, user_id, key, b"another report").status_code == 422
    assert rows("demo_receipt", user_id) == [first.json()["id"]]


def test_the_content_of_a_row_that_was_rolled_back_is_found_by_the_retry(alice, rows, user_id):
    key, text = str(uuid.uuid4()), user_id.encode()
    assert upload(alice, user_id, key, text, **{"X-Demo-Fault": "raise"}).status_code == 500
    assert rows("demo_receipt", user_id) == []
    answer = upload(alice, user_id, key, text)
    assert (answer.status_code, answer.json()["is_new"]) == (201, False)
    assert rows("demo_receipt", user_id) == [answer.json()["id"]]

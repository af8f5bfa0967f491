"""The bank pays once a key, writes each call down, and fails as it is asked to."""

from __future__ import annotations

import secrets
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.test import override_settings

from demo_project.bank import Bank
from demo_project.banking import BankFailed, transfer
from demo_project.ledgers import Ledger, Transfer
from django_idempotency.exceptions import NotDone


@pytest.fixture
def key() -> str:
    return secrets.token_hex(16)


def pay(bank: httpx.Client, key: str = "", *, amount_cents: Any = 100, user_id: Any = "u", **faults: str):
    headers = {**({"Idempotency-Key": key} if key else {}), **faults}
    return bank.post("/transfers", json={"amount_cents": amount_cents, "user_id": user_id}, headers=headers)


def account(bank: httpx.Client, key: str) -> tuple[int, int]:
    """Return how often the bank was called with a key, and has paid for it."""
    found = bank.get("/ledger").json()["by_key"][key]
    return found["calls"], found["payments"]


def test_a_key_pays_once(bank, key):
    first, second = pay(bank, key), pay(bank, key)
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert first.json()["reference"].startswith("bk_")
    assert first.json()["amount_cents"] == 100
    assert account(bank, key) == (2, 1)


def test_calls_at_the_same_moment_pay_once(bank, key):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: pay(bank, key), range(32)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert account(bank, key) == (32, 1)


def test_without_a_key_each_call_pays(bank, key):
    references = {pay(bank, user_id=key).json()["reference"] for _ in range(3)}
    assert len(references) == 3
    assert bank.get("/ledger", params={"user_id": key}).json() == {"calls": 3, "payments": 3, "by_key": {}}


@pytest.mark.parametrize("other", [{"amount_cents": 101}, {"user_id": "v"}])
def test_a_key_pays_for_nothing_else(bank, key, other):
    pay(bank, key)
    assert pay(bank, key, **other).status_code == 422
    assert account(bank, key) == (2, 1)


def test_a_payment_is_found_by_its_key(bank):
    key = "a key/with signs?"
    assert bank.get("/transfers/a%20key%2Fwith%20signs%3F").status_code == 404
    reference = pay(bank, key).json()["reference"]
    found = bank.get("/transfers/a%20key%2Fwith%20signs%3F")
    assert (found.status_code, found.json()["reference"]) == (200, reference)


def test_the_ledger_adds_up(bank):
    before = bank.get("/ledger").json()
    keys = [secrets.token_hex(16) for _ in range(3)]
    references = {key: pay(bank, key).json()["reference"] for key in keys * 2}
    pay(bank)
    after = bank.get("/ledger").json()
    assert (after["calls"] - before["calls"], after["payments"] - before["payments"]) == (7, 4)
    assert {key: after["by_key"][key] for key in keys} == {
        key: {"calls": 2, "payments": 1, "reference": references[key]} for key in keys
    }


def test_it_pays_before_it_is_late(bank, key):
    started = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        bank.post("/transfers", json={"amount_cents": 1}, headers=fault("sleep:5", key), timeout=0.5)
    assert account(bank, key) == (1, 1)
    assert time.monotonic() - started < 4
    late = pay(bank, key, **fault("sleep:0.3"), amount_cents=1, user_id="")
    assert (late.status_code, account(bank, key)) == (201, (2, 1))


def test_it_pays_before_an_answer_is_lost(bank, key):
    with pytest.raises(httpx.RemoteProtocolError):
        pay(bank, key, **fault("lost"))
    assert account(bank, key) == (1, 1)


@pytest.mark.parametrize("status", [204, 402, 500, 503])
def test_it_does_not_pay_when_it_fails(bank, key, status):
    assert pay(bank, key, **fault(f"status:{status}")).status_code == status
    assert account(bank, key) == (1, 0)
    assert bank.get(f"/transfers/{key}").status_code == 404


@pytest.mark.parametrize("value", ["sleep", "sleep:nan", "status:99", "status:600", "lost:1", "kill"])
def test_what_is_no_fault_is_refused(bank, key, value):
    assert pay(bank, key, **fault(value)).status_code == 400
    assert key not in bank.get("/ledger").json()["by_key"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"amount_cents": 0}', b'{"amount_cents": true}', b"\xff"])
def test_what_is_no_transfer_is_refused(bank, body):
    assert bank.post("/transfers", content=body).status_code == 400
    assert bank.post("/elsewhere", content=body).status_code == 404


def test_the_ledger_outlives_the_bank(tmp_path):
    file = tmp_path / "ledger.sqlite3"
    paid = Ledger(file).pay(Transfer(key="k", user_id="u", amount_cents=1))
    assert Ledger(file).pay(Transfer(key="k", user_id="u", amount_cents=1)) == paid
    with sqlite3.connect(file) as books:
        assert books.execute("SELECT reference FROM payment").fetchall() == [(paid,)]


@pytest.fixture
def at_the_bank(bank_url):
    with override_settings(DEMO_BANK_URL=bank_url):
        yield


@pytest.mark.usefixtures("at_the_bank")
def test_the_client_transfers_once_a_key(bank, key):
    assert transfer(key, "u", 7) == transfer(key, "u", 7)
    assert account(bank, key) == (2, 1)


@pytest.mark.usefixtures("at_the_bank")
@pytest.mark.parametrize(("name", "payments"), [("lost", 1), ("status:500", 0), ("status:204", 0)])
def test_the_client_does_not_take_a_failure_for_a_payment(bank, key, name, payments):
    with pytest.raises(BankFailed):
        transfer(key, "u", 7, fault=name)
    assert account(bank, key) == (1, payments)


def test_the_client_knows_that_nobody_was_there(tmp_path):
    with Bank(0, Ledger(tmp_path / "ledger")) as closed:
        url = closed.url
    for nowhere in (url, ""):
        with override_settings(DEMO_BANK_URL=nowhere), pytest.raises(NotDone):
            transfer("k", "u", 7)


def fault(value: str, key: str = "") -> dict[str, str]:
    return {"X-Bank-Fault": value, **({"Idempotency-Key": key} if key else {})}

"""The bank's statements, over HTTP."""

from __future__ import annotations

import pytest


def line(account: str, **changes: object) -> dict[str, object]:
    return {"account": account, "amount_cents": -350, "booked_on": "2026-03-01", "text": "Coffee", **changes}


def test_a_statement_is_booked_once_with_its_equal_lines(alice, rows, user_id):
    statement = [line(user_id), line(user_id), line(user_id, amount_cents=-300), line(user_id, text="")]
    first, second = (alice.post("/api/bank-feed/", json=statement) for _ in range(2))
    assert (first.status_code, first.json()) == (200, {"booked": 4, "duplicates": 0})
    assert (second.status_code, second.json()) == (200, {"booked": 0, "duplicates": 4})
    extended = alice.post("/api/bank-feed/", json=[*statement, line(user_id), line(user_id, booked_on="2026-03-02")])
    assert extended.json() == {"booked": 2, "duplicates": 4}
    assert len(rows("demo_banktransaction", user_id)) == 6


def test_a_statement_with_one_wrong_line_is_refused_as_a_whole(alice, rows, user_id):
    for wrong in ({"amount_cents": "many"}, {"booked_on": "yesterday"}, {"account": ""}):
        assert alice.post("/api/bank-feed/", json=[line(user_id), {**line(user_id), **wrong}]).status_code == 400
    assert rows("demo_banktransaction", user_id) == []
    assert alice.post("/api/bank-feed/", json=[line(user_id)]).json() == {"booked": 1, "duplicates": 0}


@pytest.mark.parametrize("statement", [{}, "text", 1, None])
def test_a_statement_is_a_list(alice, statement):
    assert alice.post("/api/bank-feed/", json=statement).status_code == 400


def test_nobody_delivers_without_a_token(anonymous, user_id):
    assert anonymous.post("/api/bank-feed/", json=[line(user_id)]).status_code == 401

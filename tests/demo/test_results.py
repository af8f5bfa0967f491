"""Verdicts follow from facts, and can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest

from demo_project.reports import Report
from demo_project.results import Check, Exchange, Facts

BODY = json.dumps({"id": "ch_1"}).encode()
EXECUTED = Exchange(key="k", status=201, body=BODY)
REPLAYED = replace(EXECUTED, is_replay=True)
REFUSED = Exchange(key="k", status=409, retry_after=1)
LOST = Exchange(key="k")
ERROR = Exchange(key="k", status=500)
SOUND = Facts(
    scenario="sound",
    exchanges=(LOST, ERROR, EXECUTED, REFUSED, REPLAYED),
    rows=("ch_1",),
    expected_rows=1,
    checks=(Check(name="status", expected=201, measured=201),),
)


def test_facts_that_hold_pass_and_add_up():
    assert SOUND.holds
    assert SOUND.counts == {"sent": 5, "executed": 1, "replayed": 1, "refused": 1, "failed": 2}


@pytest.mark.parametrize(
    ("doctored", "failure"),
    [
        (replace(SOUND, rows=("ch_1", "ch_2")), "rows written: 2, not 1"),
        (replace(SOUND, rows=()), "rows written: 0, not 1"),
        (replace(SOUND, rows=("ch_2",)), "rows that were acknowledged, but are not in the database: 1"),
        (
            replace(SOUND, rows=("1",), exchanges=(EXECUTED, replace(EXECUTED, key="f", body=b'{"booked": 1}'))),
            "rows that were acknowledged, but are not in the database: 1",
        ),
        (replace(SOUND, exchanges=(EXECUTED, EXECUTED)), "keys that were executed more than once: 1"),
        (
            replace(SOUND, exchanges=(EXECUTED, replace(REPLAYED, body=BODY + b" "))),
            "keys that got different answers: 1",
        ),
        (replace(SOUND, exchanges=(LOST, REFUSED)), "keys that never got their answer: 1"),
        (replace(SOUND, checks=(Check(name="status", expected=422, measured=201),)), "status: 201, not 422"),
    ],
)
def test_a_protection_that_does_not_hold_fails(doctored, failure):
    assert failure in doctored.failures
    assert not doctored.holds
    assert doctored.as_dict()["verdict"] == "FAIL"


def test_one_failure_fails_the_report():
    broken = replace(SOUND, scenario="broken", rows=("ch_1", "ch_2"))
    report = Report(database="none", results=[SOUND, broken], seconds=1.0)
    printed = StringIO()
    report.print_table(printed)
    assert not report.holds
    assert json.loads(report.to_json())["passed"] is False
    assert "FAIL broken: rows written: 2, not 1" in printed.getvalue()
    assert [line.split()[-2] for line in printed.getvalue().splitlines() if line.startswith("│")] == ["pass", "FAIL"]


def test_clients_retry_what_is_worth_it():
    assert [exchange.may_be_retried for exchange in (LOST, ERROR, REFUSED)] == [True] * 3
    mismatch, not_replayable = Exchange(key="k", status=422), Exchange(key="k", status=409)
    assert [exchange.may_be_retried for exchange in (EXECUTED, REPLAYED, mismatch, not_replayable)] == [False] * 4

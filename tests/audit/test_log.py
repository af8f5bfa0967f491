"""The audit log: a line for each fact, no secrets in it, and nothing that could forge another line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction

from django_idempotency import signals
from django_idempotency.audit.log import JSONFormatter
from tests.contrib.facts import COMMON, DIGEST, SECRETS, answered, attempted, decided

LOGGER = logging.getLogger("django_idempotency.audit")
FORGED = 'x\n{"outcome": "forged"}\r\u2028\x1b[31m\x00'

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a project with the handler of the documentation would find in its file."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield stream
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(logging.NOTSET)


@pytest.fixture
def lines(log: io.StringIO) -> Lines:
    return lambda: [json.loads(line) for line in log.getvalue().split("\n") if line]


def test_an_answer_is_a_line_with_the_facts(lines: Lines) -> None:
    signals.operation_answered.send(**answered("executed", duration=0.0213))
    (line,) = lines()
    assert isinstance(line.pop("timestamp"), float)
    assert line == {
        "level": "INFO",
        "logger": "django_idempotency.audit",
        "message": f"executed 'POST charge-list' {DIGEST[:8].hex()}",
        "outcome": "executed",
        "layer": "http",
        "operation": "POST charge-list",
        "idempotency_key": "0001020304050607",
        "request_fingerprint": "6465666768696a6b",
        "outcome_hash": "c8c9cacbcccdcecf",
        "duration_ms": 21.3,
        "attempt": 1,
        "status": 201,
        "reason": "",
    }


def test_a_refusal_without_a_key_is_a_line_too(lines: Lines) -> None:
    empty = {"digest": b"", "fingerprint": b"", "outcome_hash": b""}
    signals.operation_answered.send(**answered("rejected", status=400, reason="missing-key", **empty))
    (line,) = lines()
    assert (line["outcome"], line["status"], line["reason"]) == ("rejected", 400, "missing-key")
    assert (line["idempotency_key"], line["request_fingerprint"], line["duration_ms"]) == ("", "", None)


@pytest.mark.django_db(transaction=True)
def test_every_other_fact_is_a_line(lines: Lines) -> None:
    signals.batch_answered.send(**COMMON, counts={"inserted": 3, "unchanged": 2}, duration=0.5)
    signals.operation_taken_over.send(**attempted())
    signals.operation_fenced.send(**attempted())
    signals.operation_released.send(**decided(status="unknown"))
    signals.operation_resolved.send(**decided(is_done=True))
    signals.operation_resolved.send(**decided(is_done=False))
    signals.decision_made.send(**decided(action="rewound"))
    signals.rows_purged.send(**COMMON, table="records", count=5000)
    found = lines()
    assert [line["outcome"] for line in found] == [
        *("batch", "taken_over", "fenced", "released", "resolved_done", "resolved_not_done", "rewound", "purged")
    ]
    assert (found[0]["count_inserted"], found[0]["count_unchanged"], found[0]["duration_ms"]) == (3, 2, 500.0)
    assert found[1]["attempt"] == 2
    assert [line["actor"] for line in found[3:7]] == ["user:alice"] * 4
    assert (found[7]["table"], found[7]["count"]) == ("records", 5000)


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_leaves_no_line_but_a_refusal_does(lines: Lines) -> None:
    with transaction.atomic():
        signals.operation_answered.send(**answered("executed", using="default"))
        signals.operation_answered.send(**answered("mismatch", using="default"))
        signals.operation_fenced.send(**attempted(using="default"))
        transaction.set_rollback(True)
    assert [line["outcome"] for line in lines()] == ["mismatch", "fenced"]
    with transaction.atomic():
        signals.operation_answered.send(**answered("executed", using="default"))
        assert len(lines()) == 2
    assert lines()[2]["outcome"] == "executed"


@pytest.mark.django_db
def test_no_line_tells_keys_scopes_or_whole_digests(log: io.StringIO) -> None:
    signals.operation_answered.send(**answered("executed", key=SECRETS[0], body=SECRETS[0]))
    signals.operation_fenced.send(**attempted())
    signals.operation_released.send(**decided(status="unknown"))
    signals.decision_made.send(**decided(action="erased"))
    assert log.getvalue().count("\n") == 4
    assert [secret for secret in SECRETS if secret in log.getvalue()] == []


@pytest.mark.parametrize("formatter", [JSONFormatter(), logging.Formatter("%(levelname)s %(message)s")])
def test_no_fact_can_start_another_line(log: io.StringIO, formatter: logging.Formatter) -> None:
    LOGGER.handlers[-1].setFormatter(formatter)
    signals.operation_answered.send(**answered("executed", operation=FORGED, reason=FORGED))
    written = log.getvalue()
    assert len(written.splitlines()) == 1
    assert written.rstrip("\n").isascii()
    assert written.rstrip("\n").isprintable()


def test_a_formatted_operation_is_the_one_that_was_sent(lines: Lines) -> None:
    signals.operation_answered.send(**answered("executed", operation=FORGED))
    assert lines()[0]["operation"] == FORGED


def test_the_formatter_takes_any_record() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        failure = (type(error), error, error.__traceback__)
    record = logging.LogRecord("shop", logging.ERROR, __file__, 1, "%s went\nwrong", ("it",), failure)
    record.customer, record.things = object(), {1: {2}}
    text = JSONFormatter().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (line["message"], line["level"], line["logger"]) == ("it went\nwrong", "ERROR", "shop")
    assert "ValueError: first\nsecond" in line["exception"]
    assert set(line) == {"timestamp", "level", "logger", "message", "customer", "things", "exception"}


def test_a_logger_that_is_off_looks_at_no_fact(caplog: pytest.LogCaptureFixture) -> None:
    class Untouched(dict[str, Any]):
        def items(self) -> Any:
            raise AssertionError("looked at")

    with caplog.at_level(logging.WARNING, logger=LOGGER.name):
        signals.batch_answered.send(**COMMON, counts=Untouched(), duration=0.5)
        assert caplog.records == []
    with caplog.at_level(logging.INFO, logger=LOGGER.name), pytest.raises(AssertionError, match="looked at"):
        signals.batch_answered.send(**COMMON, counts=Untouched(), duration=0.5)


def test_requests_leave_lines(alice: Any, lines: Lines) -> None:
    key = "8e03978e-40d5-43e8-bc93-6894a57f9324"
    for amount in (1, 1, 2):
        alice.post("/payments/", {"amount": amount, "reference": "canary-reference"}, key=key)
    alice.post("/payments/", {"amount": 1, "reference": "r"})
    found = lines()
    assert [line["outcome"] for line in found] == ["executed", "replayed", "mismatch", "rejected"]
    assert [line["status"] for line in found] == [201, 201, 422, 400]
    assert len({line["idempotency_key"] for line in found[:3]}) == 1
    assert found[0]["outcome_hash"] == found[1]["outcome_hash"] != ""
    assert found[0]["duration_ms"] > 0
    assert [text for text in (key, "canary-reference", alice.token.key) if text in json.dumps(found)] == []

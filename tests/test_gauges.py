"""What rooms register is read at each scrape, told once by metrics and status, and harms nothing where it fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError
from prometheus_client import CollectorRegistry, generate_latest

from django_idempotency import gauges
from django_idempotency.contrib.prometheus import StandingCollector
from django_idempotency.gauges import Board, Gauge, Reading

WAITING = Gauge(name="letters", text="Letters that wait.", labels=("box",))
OLDEST = Gauge(name="oldest_letter_seconds", text="Age of the oldest letter.")


def read(alias: str) -> Iterator[Reading]:
    yield Reading(gauge=WAITING, values=("red",), value=3)
    yield Reading(gauge=WAITING, values=("blue",), value=0)
    yield Reading(gauge=OLDEST, value=1.26)


def fail(alias: str) -> list[Reading]:
    raise DatabaseError("gone")


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register a board for this test alone."""
    monkeypatch.setattr(gauges, "_boards", dict(gauges._boards))

    def register(**values: Any) -> None:
        facts = {"name": "letters", "gauges": (WAITING, OLDEST), "read": read, "aliases": lambda: ["default"]}
        gauges.register(Board(**{**facts, **values}))

    return register


def shown() -> str:
    registry = CollectorRegistry()
    registry.register(StandingCollector())
    return generate_latest(registry).decode()


def status() -> dict[str, Any]:
    output = StringIO()
    call_command("idempotency_status", "--json", stdout=output)
    told: dict[str, Any] = json.loads(output.getvalue())
    return told


@pytest.mark.django_db
def test_a_scrape_and_the_status_tell_what_a_board_reads(letters: Any) -> None:
    letters()
    letters()  # another of the same name takes its place
    lines = [line for line in shown().splitlines() if "letter" in line and not line.startswith("#")]
    assert lines == [
        'idempotency_letters{box="red",database="default"} 3.0',
        'idempotency_letters{box="blue",database="default"} 0.0',
        'idempotency_oldest_letter_seconds{database="default"} 1.26',
    ]
    assert status()["letters"] == {"red": 3, "blue": 0}
    assert status()["oldest_letter_seconds"] == 1.3


@pytest.mark.django_db
def test_a_board_that_fails_takes_no_other_with_it(letters: Any, caplog: pytest.LogCaptureFixture) -> None:
    letters(name="broken", read=fail)
    letters(name="whole")
    with caplog.at_level(logging.ERROR):
        text = shown()
    assert "The standing of the broken cannot be told" in caplog.text
    assert 'idempotency_letters{box="red",database="default"} 3.0' in text
    assert "idempotency_stuck_records" in text


@pytest.mark.django_db
def test_the_status_of_one_database_leaves_out_what_is_in_others(letters: Any) -> None:
    letters(aliases=lambda: ["elsewhere"])
    assert "letters" not in status()

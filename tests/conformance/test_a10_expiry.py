"""A10: expiry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils.http import http_date, parse_http_date

from django_idempotency.conf import Settings
from django_idempotency.core.records import Claim
from django_idempotency.models import Record
from django_idempotency.stores import sqlite
from tests.callers import Caller, new_key
from tests.conformance.views_responses import impatient, in_flight, scripted
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_responses")

START = datetime(2031, 3, 30, 0, 30, tzinfo=UTC)  # a night in which many clocks are put forward
DAY = timedelta(hours=24)
TICK = timedelta(microseconds=1)


@contextmanager
def store_clock(at: datetime) -> Iterator[None]:
    """Stop the clock that the store goes by: the database's; on SQLite, which has none, the store's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Claim, "duration", 0.0)
        with _stopped_clock(at):
            yield


@contextmanager
def _stopped_clock(at: datetime) -> Iterator[None]:
    if connection.vendor == "sqlite":
        stopped = type("Stopped", (datetime,), {"now": classmethod(lambda cls, zone=None: at)})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite, "datetime", stopped)
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA stopped")
        cursor.execute(
            "CREATE FUNCTION stopped.statement_timestamp() RETURNS timestamptz STABLE LANGUAGE sql "
            f"AS $$ SELECT '{at.isoformat()}'::timestamptz $$"
        )
        cursor.execute("SET search_path = stopped, pg_catalog, public")
        try:
            yield
        finally:
            cursor.execute("RESET search_path")
            cursor.execute("DROP SCHEMA stopped CASCADE")


def pay(caller: Caller, path: str, key: str, *, at: datetime) -> Any:
    with store_clock(at):
        return caller.post(path, key=key)


def is_replayed(response: Any) -> bool:
    assert response.status_code == 201
    return "Idempotent-Replayed" in response


def purge(*, at: datetime) -> int:
    """Run the command and return how many records are left."""
    with store_clock(at):
        call_command("idempotency_purge", stdout=StringIO())
    return Record.objects.count()


def test_a10_116_the_default_retention_is_a_day_and_it_is_published(alice: Caller) -> None:
    key = new_key()
    with scripted():
        first = pay(alice, "/required/", key, at=START)
        again = pay(alice, "/required/", key, at=START + DAY - TICK)
    assert DAY.total_seconds() == Settings.TTL
    assert first["Idempotency-Expires"] == again["Idempotency-Expires"] == http_date((START + DAY).timestamp())
    assert is_replayed(again)


def test_a10_116_retention_is_a_setting_and_a_policy_may_have_its_own(alice: Caller, settings: Any) -> None:
    with scripted():
        for ttl in (90, timedelta(seconds=90)):
            settings.IDEMPOTENCY_TTL = ttl
            response = pay(alice, "/required/", new_key(), at=START)
            assert parse_http_date(response["Idempotency-Expires"]) == START.timestamp() + 90
        response = pay(alice, "/brief/", new_key(), at=START)
    assert parse_http_date(response["Idempotency-Expires"]) == START.timestamp() + 7


def test_a10_116_retention_is_honoured_whatever_is_purged_meanwhile(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        first = pay(alice, "/required/", key, at=START)
        assert purge(at=START + DAY - TICK) == 1
        again = pay(alice, "/required/", key, at=START + DAY - TICK)
    assert (again.content, script.calls) == (first.content, 1)
    assert purge(at=START + DAY) == 0


def test_a10_116_what_was_not_kept_promises_no_retention(alice: Caller) -> None:
    with scripted():
        assert "Idempotency-Expires" not in alice.post("/success/")
        assert "Idempotency-Expires" not in alice.post("/model/", {"amount": "three"}, key=new_key())


def test_a10_117_a_record_expires_in_the_read_at_the_very_end_of_its_interval(alice: Caller) -> None:
    key = new_key()
    with scripted() as script:
        first = pay(alice, "/brief/", key, at=START)
        last_replay = pay(alice, "/brief/", key, at=START + timedelta(seconds=7) - TICK)
        assert (script.calls, last_replay.content) == (1, first.content)
        anew = pay(alice, "/brief/", key, at=START + timedelta(seconds=7))
        assert (script.calls, is_replayed(anew)) == (2, False)
        replay = pay(alice, "/brief/", key, at=START + timedelta(seconds=8))
    assert is_replayed(replay)
    assert replay.content == anew.content != first.content
    assert (Record.objects.count(), Payment.objects.count()) == (1, 2)


def test_a10_117_an_expired_key_may_carry_another_request(alice: Caller) -> None:
    key = new_key()
    with scripted():
        pay(alice, "/brief/", key, at=START)
        with store_clock(START + timedelta(seconds=7)):
            other = alice.post("/brief/", {"amount": 4}, key=key)
            assert not is_replayed(other)
            assert alice.post("/brief/", key=key).status_code == 422
            assert is_replayed(alice.post("/brief/", {"amount": 4}, key=key))


def test_a10_117_a_failed_run_on_an_expired_key_leaves_it_as_it_was(alice: Caller) -> None:
    key = new_key()
    with scripted():
        first = pay(alice, "/brief/", key, at=START)
    with scripted(lambda request: 1 / 0):
        with store_clock(START + timedelta(seconds=7)):
            assert alice.post("/brief/", key=key).status_code == 500
        assert pay(alice, "/brief/", key, at=START).content == first.content
    assert Payment.objects.count() == 1


@pytest.mark.postgresql
def test_a10_117_the_clock_is_the_databases(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    far_ahead = type("FarAhead", (datetime,), {"now": classmethod(lambda cls, zone=None: START + 365 * DAY)})
    for module in ("core.execution", "http.responses", "stores.base", "stores.rows", "stores.postgresql"):
        monkeypatch.setattr(f"django_idempotency.{module}.datetime", far_ahead, raising=False)
    monkeypatch.setattr("django.utils.timezone.now", far_ahead.now)
    key = new_key()
    with scripted() as script:
        pay(alice, "/brief/", key, at=START)
        assert is_replayed(pay(alice, "/brief/", key, at=START + timedelta(seconds=6)))
    record = Record.objects.get()
    assert (record.completed_at, record.expires_at) == (START, START + timedelta(seconds=7))
    assert script.calls == 1


def test_a10_121_retry_after_never_exceeds_the_retention(alice: Caller) -> None:
    key = new_key()
    with in_flight(alice, "/brief/", key=key), impatient():
        refused = alice.post("/brief/", key=key)
    assert refused.status_code == 409
    assert refused["Retry-After"] == "7"


def test_a10_121_retry_after_is_what_the_policy_says_where_that_is_less(alice: Caller, settings: Any) -> None:
    for ttl, expected in ((17, "17"), (16, "16"), (DAY, "17")):
        settings.IDEMPOTENCY_TTL = ttl
        key = new_key()
        with in_flight(alice, "/patient/", key=key), impatient():
            refused = alice.post("/patient/", key=key)
        assert (refused.status_code, refused["Retry-After"]) == (409, expected)


def test_a10_122_another_ttl_setting_changes_no_promise_that_was_made(alice: Caller, settings: Any) -> None:
    old, new = new_key(), new_key()
    with scripted() as script:
        settings.IDEMPOTENCY_TTL = 100
        first = pay(alice, "/required/", old, at=START)
        settings.IDEMPOTENCY_TTL = 10
        pay(alice, "/required/", new, at=START)
        late = pay(alice, "/required/", old, at=START + timedelta(seconds=100) - TICK)
        assert (script.calls, late["Idempotency-Expires"]) == (2, first["Idempotency-Expires"])
        assert not is_replayed(pay(alice, "/required/", new, at=START + timedelta(seconds=10)))
        settings.IDEMPOTENCY_TTL = 1000
        assert not is_replayed(pay(alice, "/required/", old, at=START + timedelta(seconds=100)))
    assert script.calls == 4


def test_a10_122_a_record_tells_when_it_was_made_so_that_retention_can_be_recomputed(alice: Caller) -> None:
    with scripted():
        pay(alice, "/brief/", new_key(), at=START)
    record = Record.objects.get()
    assert (record.completed_at, record.expires_at) == (START, START + timedelta(seconds=7))
    assert record.created_at == START

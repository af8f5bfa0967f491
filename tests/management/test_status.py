"""``idempotency_status`` says what a client has counted itself, and stays cheap."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.models import AuditEvent, Record, Rollup
from django_idempotency.stores import figures, get_store
from django_idempotency.testing import make_operation
from tests.callers import Caller, new_key
from tests.campaigns.harness import ROOT, database_url
from tests.conformance.views_responses import scripted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.conformance.urls_responses")]
DAY = timedelta(days=1)
REQUIRED, BRIEF = "POST required", "POST brief"


def status(*arguments: str) -> Any:
    output = StringIO()
    call_command("idempotency_status", "--json", *arguments, stdout=output)
    return json.loads(output.getvalue())


def exactly(rows: int) -> dict[str, Any]:
    return {"rows": rows, "kind": "exact"}


def note(event: str, operation: str, *, count: int = 1, hours_ago: float = 0) -> None:
    at = timezone.now() - timedelta(hours=hours_ago)
    AuditEvent.objects.bulk_create([AuditEvent(event=event, operation=operation, count=count, at=at)])


def outcome_of(response: Any) -> str:
    if response.status_code == 422:
        return "mismatch"
    return "replayed" if "Idempotent-Replayed" in response else "executed"


def test_the_numbers_are_those_that_a_client_counts(alice: Caller) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    with scripted():
        for operation, requests in ((REQUIRED, (1, 1, 1, 2, 3)), (BRIEF, (1, 2, 1))):
            keys = {number: new_key() for number in requests}
            for number in requests:
                outcome = outcome_of(alice.post(f"/{operation.split()[1]}/", key=keys[number]))
                counted[operation, outcome] += 1
            outcome = outcome_of(alice.post(f"/{operation.split()[1]}/", {"other": 1}, key=keys[1]))
            counted[operation, outcome] += 1
    note("executed", REQUIRED, count=3)  # not kept, so that no record tells of them
    note("replayed", REQUIRED, hours_ago=25)
    facts = status()
    assert facts["outcomes"] == {"executed": 5 + 3, "replayed": 3, "mismatch": 2}
    assert sum(counted.values()) == 10
    assert (counted[REQUIRED, "replayed"], counted[BRIEF, "replayed"]) == (2, 1)
    assert facts["duplicate_rates"] == {BRIEF: 0.25, REQUIRED: round(2 / 9, 4)}
    assert facts["duplicate_rate"] == round(3 / 13, 4)
    assert (facts["records"], facts["audit_events"]) == (exactly(5), exactly(7))


def test_hours_that_are_summed_are_not_counted_again(alice: Caller) -> None:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    for hours_ago, outcome, count in ((2, "executed", 10), (1, "replayed", 5), (1, "executed", 7)):
        at = hour - timedelta(hours=hours_ago)
        Rollup.objects.create(hour=at, layer="http", operation=REQUIRED, outcome=outcome, count=count)
    with scripted():
        alice.post("/required/", key=new_key())
        alice.post("/required/", key=new_key())
    AuditEvent.objects.bulk_create(
        [AuditEvent(event="replayed", operation=REQUIRED, count=5, at=hour - timedelta(minutes=30))]
    )
    AuditEvent.objects.bulk_create(
        [AuditEvent(event="replayed", operation=REQUIRED, count=99, at=hour - timedelta(minutes=90))]
    )
    # The newest hour that was summed may not be over: it is counted anew, the one before it is not.
    assert status()["outcomes"] == {"executed": 10 + 2, "replayed": 5}


def test_what_waits_is_counted_with_its_age() -> None:
    assert status()["oldest_waiting_seconds"] is None
    store, hour = get_store(), timedelta(hours=1)
    for lease in (timedelta(0), timedelta(0), DAY):
        store.reserve(make_operation(), lease=lease, ttl=DAY)
    store.release(store.reserve(make_operation(), lease=DAY, ttl=DAY), unknown=True)  # type: ignore[arg-type]
    lapsed = Record.objects.order_by("id")[1]
    Record.objects.filter(pk=lapsed.pk).update(created_at=timezone.now() - hour)
    facts = status()
    assert (facts["in_progress"], facts["stuck"], facts["unknown"]) == (exactly(3), exactly(2), exactly(1))
    assert facts["released"] == exactly(0)
    assert hour.total_seconds() <= facts["oldest_waiting_seconds"] < hour.total_seconds() + 60
    assert facts["oldest_expired_seconds"] is None


def test_the_oldest_expired_record_tells_when_a_purge_is_due(alice: Caller) -> None:
    with scripted():
        for _ in range(2):
            alice.post("/required/", key=new_key())
    Record.objects.filter(pk=Record.objects.earliest("id").pk).update(expires_at=timezone.now() - DAY)
    assert abs(status()["oldest_expired_seconds"] - DAY.total_seconds()) < 60


def test_many_rows_are_not_counted_one_by_one(monkeypatch: pytest.MonkeyPatch, alice: Caller) -> None:
    with scripted():
        for _ in range(4):
            alice.post("/required/", key=new_key())
    monkeypatch.setattr(figures, "CAP", 3)
    assert status()["records"] in ({"rows": 3, "kind": "at_least"}, {"rows": 4, "kind": "estimate"})
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {connection.ops.quote_name(Record._meta.db_table)}")
        assert status()["records"] == {"rows": 4, "kind": "estimate"}
    monkeypatch.setattr(figures, "CAP", 4)
    assert status()["records"] == exactly(4)


@pytest.mark.postgresql
def test_the_sizes_of_tables_are_told(alice: Caller) -> None:
    sizes = status()["bytes"]
    assert set(sizes) == {"records", "audit"}
    assert min(sizes.values()) > 8192


def test_it_takes_a_fixed_number_of_statements(alice: Caller) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            status()
        return len(queries)

    empty = cost()
    with scripted():
        for _ in range(5):
            alice.post("/required/", key=new_key())
            note("replayed", REQUIRED)
    assert cost() == empty <= 18


def test_the_text_has_neither_keys_nor_bodies(alice: Caller) -> None:
    key, output = new_key(), StringIO()
    with scripted():
        body = alice.post("/required/", key=key).json()
    call_command("idempotency_status", stdout=output)
    assert "records: 1\n" in output.getvalue()
    assert f"duplicate_rates: {REQUIRED} 0.0\n" in output.getvalue()
    assert not [secret for secret in (key, body["nonce"]) if secret in output.getvalue()]


def test_it_says_it_again_until_it_is_interrupted(alice: Caller) -> None:
    environment = {**os.environ, "DATABASE_URL": database_url({}), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-m", "django", "idempotency_status", "--watch=0.05", "--json"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = json.loads(process.stdout.readline())
            with scripted():
                alice.post("/required/", key=new_key())
            for line in process.stdout:  # the test's time-out is the deadline
                if (later := json.loads(line))["records"] != first["records"]:
                    break
        finally:
            process.send_signal(signal.SIGINT)
    assert (first["records"], later["records"]) == (exactly(0), exactly(1))
    assert process.returncode == 0


@pytest.mark.parametrize("argument", ["--watch=0", "--store=elsewhere"])
def test_a_senseless_argument_is_an_error(argument: str) -> None:
    with pytest.raises(CommandError):
        status(argument)

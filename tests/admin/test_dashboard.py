"""The figures: requests add up, from sums and raw rows, and nothing is counted twice."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_idempotency import retention
from django_idempotency.admin import charts, dashboard, sums
from django_idempotency.admin.charts import chart
from django_idempotency.admin.sums import Sums, read_sums
from django_idempotency.audit.figures import REQUESTS
from django_idempotency.models import Record, Rollup
from django_idempotency.retention import Retention
from tests.admin.desks import make_events, make_record, make_waiting, seat, staff
from tests.callers import Caller, new_key

pytestmark = pytest.mark.django_db(transaction=True)
HOUR = timedelta(hours=1)


def this_hour() -> datetime:
    return timezone.now().replace(minute=0, second=0, microsecond=0)


def make_sum(hour: datetime, outcome: str, count: int, **values: Any) -> None:
    facts = {"layer": "http", "operation": "POST payment-list", **values}
    Rollup.objects.create(hour=hour, outcome=outcome, count=count, **facts)


def index(client: Client, **parameters: str) -> str:
    return client.get(reverse("admin:app_list", args=["idempotency"]), parameters).content.decode()


def figure(page: str, name: str) -> str:
    found = re.search(rf'id="idempotency-{name}">(?:<a [^>]*>)?([^<]*)', page)
    assert found
    return found[1]


def test_each_request_is_counted_once_from_sums_records_and_events() -> None:
    hour = this_hour()
    make_sum(hour - 3 * HOUR, "executed", 10)
    make_sum(hour - 3 * HOUR, "replayed", 5)
    make_sum(hour - 2 * HOUR, "executed", 1000)  # the newest hour, which may have gone on since: counted raw instead
    make_record(at=hour - 2 * HOUR)
    make_record(at=hour - 2 * HOUR + timedelta(minutes=59))
    make_record(at=hour - 4 * HOUR)  # of an hour that was summed up
    make_waiting("in_progress")
    make_events("executed", at=hour - HOUR)  # its record was purged
    make_events("replayed", 7, at=hour - HOUR)
    make_events("in_progress", 2, at=hour - HOUR)
    make_events("mismatch", 3, at=hour - HOUR)
    make_events("released", at=hour - HOUR)  # no request
    make_events("mismatch", at=hour - 3 * HOUR)  # of an hour that was summed up
    read = read_sums("default", hour - 24 * HOUR)
    assert {outcome: read.total(outcome) for outcome in (*REQUESTS, "released")} == {
        "executed": 13,
        "replayed": 12,
        "in_progress": 2,
        "mismatch": 3,
        "rejected": 0,
        "failed": 0,
        "released": 0,
    }
    assert read.rate == 14 / 30
    assert read.summed_until == hour - 2 * HOUR
    assert read.counted_from is None


def test_without_sums_everything_is_counted_raw_and_says_where_it_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "COUNTED_RAW", 3)
    now = timezone.now()
    for minute in range(5):
        make_record(at=now - timedelta(minutes=minute))
    read = read_sums("default", now - 24 * HOUR)
    assert read.total("executed") == 3
    assert read.counted_from == now - timedelta(minutes=3)
    page = index(seat(staff("viewer", "view_rollup")))
    assert "have not been summed up yet" in page


def test_the_newest_sum_stands_for_its_hour_where_its_rows_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "COUNTED_RAW", 3)
    hour = this_hour()
    make_sum(hour - HOUR, "executed", 50)
    for minute in range(5):
        make_record(at=hour - timedelta(minutes=1 + minute))
    make_record(at=hour)
    read = read_sums("default", hour - 24 * HOUR)
    assert (read.total("executed"), read.counted_from) == (51, None)


def test_quantiles_come_from_classes_of_durations() -> None:
    for duration in (0.0005, 0.004, 0.004, 0.004, 0.009, 0.009, 0.2, 0.2, 0.2, 90):
        make_record(duration=duration)
    read = read_sums("default", timezone.now() - HOUR)
    assert [read.quantile(share) for share in (0.1, 0.4, 0.5, 0.6, 0.9, 0.95)] == [
        0.001,
        0.005,
        0.01,
        0.01,
        0.25,
        float("inf"),
    ]
    make_sum(this_hour() - 5 * HOUR, "executed", 1000, durations=[1000, *[0] * 15])
    make_sum(this_hour() - 4 * HOUR, "executed", 0)
    assert read_sums("default", timezone.now() - 24 * HOUR).quantile(0.95) == 0.001
    assert Sums().quantile(0.5) is None


def test_operations_with_the_most_duplicates_stand_first() -> None:
    for number in range(12):
        make_events("executed", 10, operation=f"op-{number:02}")
        make_events("replayed", number, operation=f"op-{number:02}")
    rates = dashboard.by_operation(read_sums("default", timezone.now() - HOUR))
    assert [one.operation for one in rates] == [f"op-{number:02}" for number in range(11, 1, -1)]
    assert rates[0].rate == pytest.approx(100 * 11 / 21)


def test_bars_are_stacked_within_the_height_and_stand_in_their_hour() -> None:
    now = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
    counted = Sums()
    counted.count(now.replace(hour=10, minute=0), "a", "executed", 30)
    counted.count(now.replace(hour=10, minute=0), "b", "replayed", 10)
    counted.count(now.replace(hour=12, minute=0), "a", "mismatch", 20)
    drawn = chart(counted, now - 3 * HOUR, now)
    assert [slot.total for slot in drawn.slots] == [0, 40, 0, 20]
    executed, replayed = drawn.slots[1].bars
    assert (executed.y, executed.height) == (charts.HEIGHT * 0.25, charts.HEIGHT * 0.75)
    assert (replayed.y, replayed.height) == (0, charts.HEIGHT * 0.25)
    assert executed.x == charts.STEP + 1
    assert drawn.highest == 40


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
def test_days_begin_where_the_reader_lives_and_each_is_there_once(zone: str) -> None:
    with timezone.override(zone):
        until = datetime(2026, 4, 10, 12, tzinfo=UTC)  # a change of clocks lies between
        counted = Sums()
        counted.count(until - timedelta(days=20), "a", "executed", 1)
        drawn = chart(counted, until - timedelta(days=30), until)
        days = [slot.start.date() for slot in drawn.slots]
    assert len(days) == len(set(days)) == 31
    assert sum(slot.total for slot in drawn.slots) == 1


def test_the_index_shows_the_state_of_now(auditor: Client) -> None:
    make_waiting("in_progress", lapsed=True)
    make_waiting("in_progress")
    make_waiting("unknown")
    make_waiting("unknown")
    page = index(auditor)
    assert [figure(page, name) for name in ("stuck", "unknown", "requests", "rate")] == ["1", "2", "0", "–"]
    assert "never: idempotency_purge has not run" in page
    for window in ("24h", "7d", "30d", "none of these"):
        assert "<svg" in index(auditor, window=window)


def test_the_duplicate_rate_moves_after_a_storm(auditor: Client, alice: Caller) -> None:
    key = new_key()
    alice.post("/payments/", {"amount": 1}, key=key)
    assert figure(index(auditor), "rate") == "0.0 %"
    digest = bytes(Record.objects.get().digest)
    for _number in range(3):  # as the listener of operation_answered writes them down
        make_events("replayed", digest=digest)
    page = index(auditor)
    assert [figure(page, name) for name in ("requests", "rate", "prevented")] == ["4", "75.0 %", "3"]


def test_figures_of_all_tenants_are_for_those_who_may_see_sums() -> None:
    client = seat(staff("viewer", "view_record"))
    page = index(client)
    assert "idempotency-dashboard" not in page
    assert client.get(reverse("admin:idempotency_record_purge")).status_code == 403


@pytest.mark.postgresql
def test_figures_that_take_too_long_are_left_out(auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        dashboard, "read_sums", lambda alias, since: Record.objects.extra(where=["pg_sleep(5) IS NULL"]).first()
    )
    monkeypatch.setattr("django_idempotency.admin.limits.STATEMENT_TIMEOUT", 50)
    make_record()
    page = index(auditor)
    assert "The figures took too long" in page
    assert "Records" in page


def test_the_purge_preview_counts_what_has_expired(auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_record(expires_at=timezone.now() - HOUR)
    make_record()
    expired = Record.objects.filter(expires_at__lt=timezone.now())
    table = Retention(name="of a test", model=Record, order_by="expires_at", expired=lambda alias: expired)
    monkeypatch.setattr(retention, "registered", lambda: (table,))
    page = auditor.get(reverse("admin:idempotency_record_purge")).content.decode()
    assert re.search(r"<code>of a test</code></th><td>default</td><td>1</td>", page)
    assert Record.objects.count() == 2

"""``idempotency_doctor`` about databases, and about what waits in them."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from django_idempotency.core.leases import Lease
from django_idempotency.core.records import Claim
from django_idempotency.models import Record
from django_idempotency.stores import get_store
from django_idempotency.stores.diagnosis.findings import clocks
from django_idempotency.testing import CREATED, make_operation
from tests.campaigns import pgbouncer
from tests.campaigns.harness import database_url
from tests.demo.commands import environment, manage
from tests.management.doctor import Doctor

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.postgresql
def test_the_clock_and_the_version_of_the_server_are_told() -> None:
    doctor = Doctor()
    assert abs(doctor.fact("clock_difference_ms")) < 1000
    major, minor = divmod(connection.pg_version, 10000)
    assert doctor.fact("version") == f"{major}.{minor}"


@pytest.mark.parametrize("url", ["postgres://shop:hunter2@127.0.0.1:1/shop", "sqlite:////missing/hunter2/db.sqlite3"])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_database_that_is_down_is_a_finding_and_no_traceback(url: str, options: tuple[str, ...]) -> None:
    ended = manage("idempotency_doctor", *options, env=environment(url, REDIS_URL=""))
    assert ended.returncode == 1
    assert "The database cannot be used: OperationalError (OperationalError" in ended.stdout
    assert "StoreUnavailable" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


def test_a_migration_that_is_missing_is_an_error() -> None:
    recorder = MigrationRecorder(connection)
    (last,) = MigrationLoader(connection).graph.leaf_nodes("idempotency")
    recorder.record_unapplied(*last)
    try:
        doctor = Doctor()
    finally:
        recorder.record_applied(*last)
    assert doctor.fact("missing") == [last[1]]
    assert doctor.failed


def keep(*, hours_ago: float) -> None:
    """Keep a record that expired so long ago."""
    store, operation = get_store(), make_operation()
    with store.transaction():
        claim = store.claim(operation)
        assert isinstance(claim, Claim)
        store.complete(claim, CREATED, ttl=timedelta(0))
    expires_at = timezone.now() - timedelta(hours=hours_ago)
    assert Record.objects.filter(digest=operation.key.digest).update(expires_at=expires_at) == 1


@pytest.mark.parametrize(("hours", "level"), [(2, "ok"), (4, "warning")])
def test_records_that_nobody_purges_are_found(hours: int, level: str) -> None:
    keep(hours_ago=-1)
    assert Doctor().fact("oldest_expired_hours") == 0
    keep(hours_ago=hours)
    keep(hours_ago=1)
    doctor = Doctor()
    assert doctor.fact("oldest_expired_hours") == hours
    (found,) = (one for one in doctor.findings if "oldest_expired_hours" in one["facts"])
    assert (found["level"], "idempotency_purge" in found["advice"]) == (level, level == "warning")


def test_what_waits_for_somebody_is_counted_and_not_shown() -> None:
    store, keys = get_store(), [f"a-key-that-nobody-may-see-{number}" for number in range(4)]
    for key, lease in zip(keys, (0, 0, 60, 60), strict=True):
        held = store.reserve(make_operation(key=key), lease=timedelta(seconds=lease), ttl=timedelta(days=1))
        assert isinstance(held, Lease)
    store.release(held, unknown=True)
    doctor = Doctor()
    assert (doctor.fact("unknown"), doctor.fact("lapsed")) == (1, 2)
    assert doctor.bad() == [("database default", "warning", "1 unknown outcomes, 2 lapsed leases")]
    assert "nobody-may-see" not in doctor.text
    assert Record.objects.count() == 4


@pytest.mark.postgresql
def test_a_pooler_in_between_is_noticed() -> None:
    if not pgbouncer.is_installed():
        pytest.skip("there is no pgbouncer")
    with pgbouncer.transaction_pool(2) as options:
        url = database_url(options)
        ended = manage("idempotency_doctor", "--json", env=environment(url, REDIS_URL=""))
    findings = json.loads(ended.stdout)["findings"]
    (pooled,) = (one for one in findings if one["facts"].get("pooler"))
    assert (pooled["level"], "DISABLE_SERVER_SIDE_CURSORS" in pooled["advice"]) == ("warning", True)
    assert [one["level"] for one in findings if one["subject"] == "store default"] == ["ok", "ok"]
    assert "pooler" not in Doctor().text


@pytest.mark.parametrize(
    ("difference", "margin", "level"), [(0.9, 0, "ok"), (-0.9, 0, "ok"), (1.1, 0, "warning"), (1.4, 0.5, "ok")]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_clocks_that_differ_by_more_than_a_second_are_warned_of(
    difference: float, margin: float, level: str, sign: int
) -> None:
    finding = clocks("a server", difference * sign, margin)
    assert (finding.level, bool(finding.advice)) == (level, level == "warning")
    assert ("behind" if difference * sign < 0 else "ahead of") in finding.text

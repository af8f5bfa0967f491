"""``idempotency_doctor`` finds what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings
from django.utils import timezone

from django_idempotency.core.leases import Lease
from django_idempotency.core.records import Claim
from django_idempotency.models import Record
from django_idempotency.stores import get_store
from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
from django_idempotency.stores.diagnosis.findings import clocks
from django_idempotency.testing import CREATED, make_operation
from tests.campaigns import pgbouncer
from tests.campaigns.harness import database_url
from tests.campaigns.redis_faults import RedisServer
from tests.demo.commands import environment, manage
from tests.redis_servers import cache

pytestmark = pytest.mark.django_db(transaction=True)
STORES = {
    "default": {"BACKEND": "django_idempotency.stores.cached.CachedDatabaseStore"},
    "alone": {"BACKEND": "django_idempotency.stores.redis.RedisStore"},
}


class Doctor:
    """What the command said, and whether it exited with 1."""

    def __init__(self, *options: str) -> None:
        output, self.failed = StringIO(), False
        try:
            call_command("idempotency_doctor", "--json", *options, stdout=output)
        except CommandError as error:
            self.failed = error.returncode == 1
        self.text = output.getvalue()
        self.report = json.loads(self.text)
        self.findings: list[dict[str, Any]] = self.report["findings"]

    def about(self, subject: str) -> list[tuple[str, str]]:
        return [(one["level"], one["text"]) for one in self.findings if one["subject"] == subject]

    def fact(self, name: str) -> Any:
        (value,) = (finding["facts"][name] for finding in self.findings if name in finding["facts"])
        return value

    def bad(self) -> list[tuple[str, str, str]]:
        """Return what is not ok, but for the check that says what RedisStore is."""
        bad = [(one["subject"], one["level"], one["text"]) for one in self.findings if one["level"] != "ok"]
        return [one for one in bad if "W030" not in one[2]]


@pytest.fixture(scope="module")
def own() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(own: RedisServer) -> Iterator[RedisServer]:
    """Redis as it should be, in front of the store ``default`` and behind the store ``alone``."""
    own.client.config_set("save", "3600 1")
    with override_settings(CACHES={"default": entry(own.url)}, IDEMPOTENCY_STORES=STORES):
        yield own
    own.client.config_set("save", "")


def entry(url: str) -> dict[str, Any]:
    options = {"SOCKET_TIMEOUT": 0.5, "SOCKET_CONNECT_TIMEOUT": 0.5}
    return cache(url, SERIALIZER="django_redis.serializers.json.JSONSerializer", **options)


def test_what_is_well_is_ok_and_nothing_is_left_behind(server: RedisServer) -> None:
    doctor = Doctor()
    assert (doctor.bad(), doctor.failed) == ([], False)
    for store, kind in (("default", "CachedDatabaseStore"), ("alone", "RedisStore")):
        (_, completed), (_, leased) = doctor.about(f"store {store}")
        assert completed.startswith(f"{kind}: claim, complete, roll back in ")
        assert leased.startswith(f"{kind}: reserve, renew, release in ")
    assert (Record.objects.count(), server.client.keys("*")) == (0, [])


def test_it_tells_databases_and_servers(server: RedisServer) -> None:
    doctor = Doctor()
    assert doctor.fact("vendor") == connection.vendor
    isolation = {"postgresql": "read committed", "sqlite": "serializable"}[connection.vendor]
    assert (doctor.fact("isolation"), doctor.fact("atomic_requests")) == (isolation, False)
    (facts,) = (finding["facts"] for finding in doctor.findings if "maxmemory_policy" in finding["facts"])
    info = server.client.info()
    assert facts["product"].split()[1] in (info.get("valkey_version"), info["redis_version"])
    assert (facts["maxmemory_policy"], facts["persistence"], facts["role"]) == ("noeviction", ["save"], "master")
    assert (facts["replicas"], facts["maxmemory"]) == (0, 0)
    assert facts["used_memory"] > 0
    assert abs(facts["clock_difference"]) < 1


@pytest.mark.postgresql
def test_the_clock_and_the_version_of_the_server_are_told() -> None:
    doctor = Doctor()
    assert abs(doctor.fact("clock_difference_ms")) < 1000
    major, minor = divmod(connection.pg_version, 10000)
    assert doctor.fact("version") == f"{major}.{minor}"


def test_without_redis_there_is_nothing_to_tell_of_it() -> None:
    doctor = Doctor("--strict")
    assert {finding["subject"] for finding in doctor.findings} == {"store default", "database default", "checks"}
    assert (doctor.report["level"], doctor.report["errors"], doctor.report["warnings"]) == ("ok", 0, 0)


def test_people_get_a_table_with_what_to_do(server: RedisServer) -> None:
    server.client.config_set("save", "")
    output = StringIO()
    call_command("idempotency_doctor", "--no-color", stdout=output)
    lines = output.getvalue().splitlines()
    assert lines[0] == "store default"
    assert lines[1].startswith("  ok       CachedDatabaseStore: claim, complete, roll back in ")
    (found,) = (number for number, line in enumerate(lines) if "idempotency.W036" in line)
    assert lines[found].startswith("  warning  ")
    assert lines[found + 1].startswith("           -> Set appendonly to yes.")
    assert lines[-1] == "0 errors, 2 warnings."


def test_warnings_fail_where_they_should(server: RedisServer) -> None:
    assert (Doctor().failed, Doctor("--strict").failed) == (False, True)  # of W030
    with override_settings(SILENCED_SYSTEM_CHECKS=["idempotency.W030"]):
        assert not Doctor("--strict").failed


@pytest.mark.parametrize("hangs", [False, True])
def test_redis_that_is_down_is_an_error_where_it_decides_and_a_warning_in_front(
    server: RedisServer, hangs: bool
) -> None:
    if hangs:
        with server.stopped():
            both, front = Doctor(), in_front()
    else:
        server.kill()
        both, front = Doctor(), in_front()
        server.start()
    error = "TimeoutError" if hangs else "ConnectionError"
    assert both.failed
    assert [level for level, _ in both.about("store default")] == ["ok", "ok", "warning"]
    assert [level for level, _ in both.about("store alone")] == ["error", "error"]
    assert both.about("cache default") == [("error", f"Redis does not answer: {error}")]
    assert not front.failed
    assert front.about("cache default") == [("warning", f"Redis does not answer: {error}")]
    assert "W037" not in both.text


def in_front() -> Doctor:
    with override_settings(IDEMPOTENCY_STORES={"default": STORES["default"]}):
        return Doctor()


def test_a_user_of_redis_who_may_not_run_scripts_is_found(server: RedisServer) -> None:
    rights = {"categories": ["+@all", "-@scripting"], "keys": "*"}
    server.client.acl_setuser("app", enabled=True, passwords=["+hunter2"], **rights)
    with override_settings(CACHES={"default": entry(f"redis://app:hunter2@127.0.0.1:{server.port}/0")}):
        doctor = in_front()
    assert doctor.bad() == [
        ("store default", "warning", "Redis took no part: the database answered everything by itself.")
    ]
    assert "hunter2" not in doctor.text


def test_a_replica_takes_no_writes(server: RedisServer) -> None:
    server.client.replicaof("127.0.0.1", "1")
    try:
        doctor = Doctor()
    finally:
        server.client.replicaof("NO", "ONE")
    assert ("error", "The server is a replica, which takes no writes.") in doctor.about("cache default")
    assert [level for level, _ in doctor.about("store alone")] == ["error", "error"]


class Committing(DatabaseStore):
    """Does not roll back what it was asked to."""

    def transaction(self) -> DatabaseTransaction:
        opened = super().transaction()
        opened.rollback = lambda: None  # type: ignore[method-assign]
        return opened


class Losing(DatabaseStore):
    """Loses a lease at once."""

    def renew(self, held: Lease, *, lease: timedelta) -> bool:
        return False


def test_a_store_that_loses_leases_is_found_and_left_clean() -> None:
    with override_settings(IDEMPOTENCY_STORES={"default": {"BACKEND": f"{__name__}.Losing"}}):
        doctor = Doctor()
    assert ("error", "reserve, renew, release failed: LeaseNotHeld") in doctor.about("store default")
    assert (doctor.failed, Record.objects.count()) == (True, 0)


def test_a_store_that_does_not_roll_back_is_found() -> None:
    with override_settings(IDEMPOTENCY_STORES={"default": {"BACKEND": f"{__name__}.Committing"}}):
        doctor = Doctor()
    assert doctor.failed
    assert ("error", "claim, complete, roll back failed: RollbackIgnored") in doctor.about("store default")


def test_a_store_that_cannot_be_made_and_a_database_that_is_not_there_are_errors() -> None:
    gone = {"BACKEND": "django_idempotency.stores.database.DatabaseStore", "OPTIONS": {"using": "gone"}}
    with override_settings(IDEMPOTENCY_STORES={"bad": {"BACKEND": "nowhere.Store"}, "gone": gone}):
        doctor = Doctor()
    assert doctor.about("store bad") == [
        ("error", "The store cannot be used: ImproperlyConfigured (ModuleNotFoundError)")
    ]
    assert doctor.about("database gone") == [("error", "The database cannot be used: ConnectionDoesNotExist")]
    assert {"idempotency.E003", "idempotency.E010"} <= {one["facts"].get("id") for one in doctor.findings}


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
    last = ("idempotency", "0002_auditevent_append_only")
    recorder.record_unapplied(*last)
    try:
        doctor = Doctor()
    finally:
        recorder.record_applied(*last)
    assert doctor.fact("missing") == ["0002_auditevent_append_only"]
    assert doctor.failed


@pytest.mark.parametrize(("hours", "level"), [(23, "ok"), (30, "warning")])
def test_records_that_nobody_purges_are_found(hours: int, level: str) -> None:
    store = get_store()
    for age in (hours, 1):
        operation = make_operation()
        with store.transaction():
            claim = store.claim(operation)
            assert isinstance(claim, Claim)
            store.complete(claim, CREATED, ttl=timedelta(0))
        expired = timezone.now() - timedelta(hours=age)
        Record.objects.filter(digest=operation.key.digest).update(expires_at=expired)
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


def test_system_checks_that_cannot_run_are_a_finding() -> None:
    with override_settings(ROOT_URLCONF="nowhere"):
        doctor = Doctor()
    assert doctor.about("checks") == [("error", "The system checks cannot be run: ModuleNotFoundError")]

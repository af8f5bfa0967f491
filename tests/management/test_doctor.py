"""``idempotency_doctor`` finds what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from django_idempotency.core.leases import Lease
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.models import Record
from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
from tests.campaigns.redis_faults import RedisServer
from tests.demo.commands import environment, manage
from tests.management.doctor import Doctor
from tests.redis_servers import cache

pytestmark = pytest.mark.django_db(transaction=True)
STORES = {
    "default": {"BACKEND": "django_idempotency.stores.cached.CachedDatabaseStore"},
    "alone": {"BACKEND": "django_idempotency.stores.redis.RedisStore"},
}


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
    return cache(url, **options)


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


def test_redis_decides_where_one_of_its_stores_has_nothing_else(server: RedisServer) -> None:
    reverse = dict(reversed(STORES.items()))
    with override_settings(IDEMPOTENCY_STORES=reverse, CACHES={"default": entry("redis://127.0.0.1:1/0")}):
        assert Doctor().about("cache default") == [("error", "Redis does not answer: ConnectionError")]


def test_what_is_wrong_with_a_shared_cache_is_said_once(server: RedisServer) -> None:
    with override_settings(CACHES={"default": cache(server.url, SERIALIZER=None)}):
        assert Doctor().text.count("idempotency.W033:") == 1


def test_it_runs_where_the_checks_would_stop_other_commands(tmp_path: Path) -> None:
    variables = environment(f"sqlite:///{tmp_path / 'demo.sqlite3'}", REDIS_URL="nonsense")
    stopped, ended = manage("migrate", env=variables), manage("idempotency_doctor", env=variables)
    assert ("idempotency.E032" in stopped.stderr, stopped.returncode) == (True, 1)
    assert "  error    idempotency.E032" in ended.stdout
    assert "CommandError" in ended.stderr


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


class Blind(DatabaseStore):
    """Cannot recall anything."""

    def recall(self, operation: Operation) -> None:
        raise StoreUnavailable


@pytest.mark.parametrize(
    ("store", "error"),
    [
        ("Losing", "reserve, renew, release failed: LeaseNotHeld"),
        ("Blind", "claim, complete, roll back failed: StoreUnavailable"),
    ],
)
def test_a_store_that_fails_at_anything_is_found_and_left_clean(store: str, error: str) -> None:
    with override_settings(IDEMPOTENCY_STORES={"default": {"BACKEND": f"{__name__}.{store}"}}):
        doctor = Doctor()
    assert [text for level, text in doctor.about("store default") if level == "error"] == [error]
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


def test_system_checks_that_cannot_run_are_a_finding() -> None:
    with override_settings(ROOT_URLCONF="nowhere"):
        doctor = Doctor()
    assert doctor.about("checks") == [("error", "The system checks cannot be run: ModuleNotFoundError")]

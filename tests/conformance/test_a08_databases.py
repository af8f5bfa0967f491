"""A8: aliases, purge and migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction

from django_idempotency.stores import get_store
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.sessions import (
    PATIENCE,
    Gate,
    other_sessions,
    seen_from_outside,
)
from tests.conformance.views_databases import Moments
from tests.models import Payment
from tests.records import expire, rows

URLS = "tests.conformance.urls_databases"
STORES = "tests.conformance.views_databases"
DAY = timedelta(days=1)
pytestmark = pytest.mark.urls(URLS)


# 105 and 106: aliases


class ReadsFromReplica:
    """Sends reads of payments and records to a replica."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model in (Payment, Record) else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "default" if model in (Payment, Record) else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == "replica" else None


class WritesElsewhere:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model is Record else None


@contextmanager
def forbidden_replica() -> Iterator[None]:
    """Configure a second alias, to which Django's test case lets nobody connect."""
    connections.settings["replica"] = connections.settings["default"].copy()
    try:
        yield
    finally:
        del connections["replica"]
        del connections.settings["replica"]


def test_a8_105_the_store_reads_and_writes_where_records_are_written(alice: Caller, settings: Any) -> None:
    key = new_key()
    with forbidden_replica():
        settings.DATABASE_ROUTERS = [ReadsFromReplica()]
        with pytest.raises(AssertionError, match="connections to 'replica' are not allowed"):
            Record.objects.count()
        first = alice.post("/watched/", {"amount": 3}, key=key)
        again = alice.post("/watched/", {"amount": 3}, key=key)
        assert DatabaseStore().alias == "default"
        assert DatabaseStore().count_expired() == 0
        assert list(DatabaseStore().purge(batch_size=10)) == []
        settings.DATABASE_ROUTERS = []
    assert (first.status_code, again.content, again["Idempotent-Replayed"]) == (201, first.content, "true")
    assert rows() == (1, 1)


def _check_ids(store: DatabaseStore) -> list[str | None]:
    return [message.id for message in store.check()]


def test_a8_106_a_store_beside_the_database_of_the_records_is_reported(alice: Caller, settings: Any) -> None:
    with forbidden_replica():
        assert _check_ids(DatabaseStore()) == []
        settings.DATABASE_ROUTERS = [ReadsFromReplica()]
        assert _check_ids(DatabaseStore()) == []
        assert _check_ids(DatabaseStore(using="replica")) == ["idempotency.E012"]
        settings.DATABASE_ROUTERS = [WritesElsewhere()]
        assert _check_ids(DatabaseStore(using="default")) == ["idempotency.W012"]
        assert _check_ids(DatabaseStore()) == []
        settings.DATABASE_ROUTERS = []
    assert _check_ids(DatabaseStore(using="replica")) == ["idempotency.E010"]


# 107: purge


def keep_expired(alice: Caller, number: int) -> list[str]:
    """Keep some outcomes that have expired, and return their keys."""
    keys = [new_key() for _ in range(number)]
    for key in keys:
        assert alice.post("/watched/", {"amount": 3}, key=key).status_code == 201
        expire(key)
    return keys


def purge(batch_size: int = 100) -> list[int]:
    return list(get_store().purge(batch_size=batch_size))


def test_a8_107_purge_deletes_expired_outcomes_in_batches(alice: Caller) -> None:
    keep_expired(alice, 5)
    live = new_key()
    alice.post("/watched/", {"amount": 3}, key=live)
    assert get_store().count_expired() == 5
    assert purge(batch_size=2) == [2, 2, 1]
    assert [record.key for record in Record.objects.all()] == [live]


def test_a8_107_each_batch_is_committed_before_the_next(alice: Caller) -> None:
    keep_expired(alice, 3)
    left = [seen_from_outside(Record.objects.count) for _ in get_store().purge(batch_size=1)]
    assert left == [2, 1, 0]


@pytest.mark.parametrize("status", [Record.Status.IN_PROGRESS, Record.Status.UNKNOWN])
def test_a8_107_purge_never_removes_what_is_not_completed(alice: Caller, status: str) -> None:
    (key,) = keep_expired(alice, 1)
    Record.objects.filter(key=key).update(status=status)
    assert (get_store().count_expired(), purge(), Record.objects.count()) == (0, [], 1)


@pytest.mark.postgresql
def test_a8_107_purge_leaves_out_what_another_session_has_locked(alice: Caller) -> None:
    locked, *_ = keep_expired(alice, 3)
    gate = Gate()

    def hold() -> None:
        with transaction.atomic():
            Record.objects.select_for_update().get(key=locked)
            gate()

    with other_sessions() as start:
        holder = start(hold)
        gate.wait_until_reached()
        assert purge() == [2]
        assert [record.key for record in Record.objects.all()] == [locked]
        gate.open()
        holder.result(PATIENCE)
    assert purge() == [1]


def test_a8_107_an_expired_outcome_is_absent_before_any_purge(alice: Caller) -> None:
    (key,) = keep_expired(alice, 1)
    again = alice.post("/watched/", {"amount": 4}, key=key)
    assert (again.status_code, again.has_header("Idempotent-Replayed"), rows()) == (201, False, (2, 1))
    assert purge() == []
    replay = alice.post("/watched/", {"amount": 4}, key=key)
    assert (replay.content, replay["Idempotent-Replayed"]) == (again.content, "true")


@pytest.mark.parametrize("moment", ["before write", "after complete"])
def test_a8_107_purge_during_the_takeover_of_an_expired_key_does_no_harm(
    alice: Caller, moments: Moments, watched_store: None, moment: str
) -> None:
    key, bystander = keep_expired(alice, 2)
    gate = Gate()
    moments.once_at(moment, gate)
    with other_sessions() as start:
        takeover = start(alice.post, "/watched/", {"amount": 4}, key=key)
        gate.wait_until_reached()
        purging = start(purge)
        if connection.vendor == "postgresql":
            assert sum(purging.result(PATIENCE)) == (2 if moment == "before write" else 1)
        gate.open()
        assert takeover.result(PATIENCE).status_code == 201
        purging.result(PATIENCE)
    replay = alice.post("/watched/", {"amount": 4}, key=key)
    assert (replay.content, replay["Idempotent-Replayed"]) == (takeover.result().content, "true")
    assert not Record.objects.filter(key=bystander).exists()
    assert rows() == (3, 1)


# 109: migrations


def _tables() -> set[str]:
    return {name for name in connection.introspection.table_names() if name.startswith("idempotency_")}


def test_a8_109_migrations_are_reversible(alice: Caller) -> None:
    tables = _tables()
    assert Record._meta.db_table in tables
    try:
        call_command("migrate", "idempotency", "zero", verbosity=0)
        assert _tables() == set()
    finally:
        call_command("migrate", "idempotency", verbosity=0)
    assert _tables() == tables
    key = new_key()
    assert [alice.post("/watched/", {"amount": 3}, key=key).status_code for _ in range(2)] == [201, 201]
    assert rows() == (1, 1)


@pytest.mark.django_db
def test_a8_109_no_migration_is_missing() -> None:
    call_command("makemigrations", "idempotency", check=True, dry_run=True, verbosity=0)


def test_a8_109_migrations_touch_no_other_table() -> None:
    from django.db.migrations import operations
    from django.db.migrations.loader import MigrationLoader

    from django_idempotency.audit.triggers import AppendOnly
    from django_idempotency.stores.installing import StoreFunctions
    from django_idempotency.writes.overlaps import NoOverlap

    for (app, name), migration in MigrationLoader(None).disk_migrations.items():
        if app == "idempotency":
            assert migration.atomic, name
            assert all(
                isinstance(operation, operations.CreateModel | AppendOnly | NoOverlap | StoreFunctions)
                for operation in migration.operations
            ), name

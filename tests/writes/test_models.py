"""Rows of windows are purged when their time is over, and overlaps are refused by the database itself."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from django_idempotency import retention
from django_idempotency.models import DedupEntry, DedupInterval
from django_idempotency.writes import DedupWindow
from django_idempotency.writes.overlaps import NoOverlap
from tests.campaigns.sessions import Gate, other_sessions

pytestmark = pytest.mark.django_db(transaction=True)
HOUR = timedelta(hours=1)


def purge(name: str) -> list[int]:
    (found,) = (entry for entry in retention.registered() if entry.name == name)
    (alias,) = found.databases()
    expected = found.count_expired(alias)
    sizes = list(found.purge(alias, batch_size=2))
    assert sum(sizes) == expected
    return sizes


def test_entries_are_purged_when_their_window_is_over() -> None:
    window, now = DedupWindow("feed", ttl=HOUR, fields=["id"]), timezone.now()
    with transaction.atomic():
        for number, hours in enumerate((-3, -2, -1.1, -0.5, 0)):
            window.first({"id": number}, at=now + hours * HOUR)
    assert purge("windows") == [2, 1]
    assert DedupEntry.objects.count() == 2
    assert purge("windows") == []


def test_intervals_are_kept_for_the_ttl_and_the_lateness_after_event_or_arrival() -> None:
    window = DedupWindow("feed", ttl=HOUR, fields=["id"], mode="event_time", lateness=2 * HOUR)
    now = timezone.now()
    with transaction.atomic():
        window.split([{"id": days} for days in (-30, 0, 30)], at=lambda item: now + timedelta(days=item["id"]))
    kept = {interval.starts_at: interval for interval in DedupInterval.objects.all()}
    for starts_at, interval in kept.items():
        assert interval.ends_at == starts_at + HOUR
        assert interval.expires_at == max(starts_at, interval.seen_at) + 3 * HOUR
        assert abs(interval.seen_at - now) < timedelta(minutes=1)
    assert purge("window_intervals") == []
    DedupInterval.objects.filter(starts_at=now).update(expires_at=now)
    assert purge("window_intervals") == [1]


def test_a_purge_takes_nothing_that_is_being_renewed() -> None:
    window, gate = DedupWindow("feed", ttl=HOUR, fields=["id"]), Gate()
    with transaction.atomic():
        window.first({"id": 1}, at=timezone.now() - 2 * HOUR)

    def renew() -> bool:
        with transaction.atomic():
            is_first = window.first({"id": 1})
            gate()
        return is_first

    with other_sessions() as start:
        renewing = start(renew)
        gate.wait_until_reached()
        purged = start(purge, "windows") if connection.vendor == "sqlite" else None
        try:
            if connection.vendor == "postgresql":
                (found,) = (entry for entry in retention.registered() if entry.name == "windows")
                assert list(found.purge("default", batch_size=10)) == []
        finally:
            gate.open()
        assert renewing.result(30)
        if purged:
            purged.exception(30)
    assert DedupEntry.objects.count() == 1
    with transaction.atomic():
        assert not window.first({"id": 1})


def insert(hours: float) -> None:
    start = timezone.now() + hours * HOUR
    DedupInterval.objects.create(
        name="feed", digest=b"\xff" * 32, starts_at=start, ends_at=start + HOUR, seen_at=start, expires_at=start
    )


@pytest.mark.postgresql
def test_the_database_refuses_overlaps_of_one_payload() -> None:
    insert(0)
    insert(1.001)
    with pytest.raises(IntegrityError, match="idempotency_dedupinterval_overlap"):
        insert(0.5)


def test_the_constraint_can_be_taken_away_and_added_again() -> None:
    insert(0)
    try:
        call_command("migrate", "idempotency", "0002", stdout=StringIO())
        insert(0.5)
        DedupInterval.objects.all()[1].delete()
    finally:
        call_command("migrate", "idempotency", stdout=StringIO())
    if connection.vendor == "postgresql":
        with pytest.raises(IntegrityError):
            insert(0.5)


@pytest.mark.postgresql
def test_no_extension_is_needed() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extname FROM pg_extension")
        assert cursor.fetchall() == [("plpgsql",)]


class Elsewhere:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "idempotency" else None


def statements() -> list[str]:
    state = MigrationLoader(connection).project_state()
    operation = NoOverlap("DedupInterval")
    with connection.schema_editor(collect_sql=True) as editor:
        operation.database_forwards("idempotency", editor, state, state)
    return editor.collected_sql


@pytest.mark.postgresql
def test_databases_without_the_table_get_no_constraint(settings: Any) -> None:
    assert any("EXCLUDE USING gist" in statement for statement in statements())
    settings.DATABASE_ROUTERS = [Elsewhere()]
    assert statements() == []


@pytest.mark.sqlite
def test_sqlite_gets_no_constraint() -> None:
    assert statements() == []


def test_the_operation_says_what_it_does() -> None:
    operation = NoOverlap("DedupInterval")
    assert operation.describe() == "Let the database refuse overlaps of DedupInterval"
    assert operation.migration_name_fragment == "dedupinterval_no_overlap"
    assert str(DedupEntry(name="feed", digest=b"\xab" * 32)) == "feed abababab"
    assert str(DedupInterval(name="feed", digest=b"\xab" * 32)) == "feed abababab"

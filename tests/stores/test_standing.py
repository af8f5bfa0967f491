"""What a monitor is told of the records."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import Record
from django_idempotency.stores.standing import databases, standing_of, standings
from tests.contrib.standing import HOUR, add_records

pytestmark = pytest.mark.django_db(transaction=True)


def about(hours: float) -> object:
    return pytest.approx(hours * HOUR.total_seconds(), abs=timedelta(minutes=1).total_seconds())


def test_it_counts_by_status_and_tells_the_oldest() -> None:
    add_records()
    (standing,) = standings()
    assert standing.database == "default"
    assert standing.records == {"completed": 5, "in_progress": 3, "released": 1, "unknown": 2}
    assert standing.stuck == 2
    assert standing.oldest_waiting == {"in_progress": about(1), "released": about(1), "unknown": about(5)}
    assert standing.purge_lag == about(2)


def test_an_empty_table_has_nothing_waiting() -> None:
    (standing,) = standings()
    assert standing.records == dict.fromkeys(("completed", "in_progress", "released", "unknown"), 0)
    assert (standing.stuck, standing.oldest_waiting, standing.purge_lag) == (0, {}, 0.0)


def test_what_never_expires_does_not_count_as_behind() -> None:
    add_records()
    Record.objects.filter(status="completed").delete()
    assert standing_of("default").purge_lag == 0.0


@pytest.mark.postgresql
def test_postgresql_estimates_how_many_are_completed() -> None:
    add_records()
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Record._meta.db_table}")
    Record.objects.filter(status="completed").delete()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert standing_of("default").records["completed"] == 5
    assert "reltuples" in queries[1]["sql"]
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Record._meta.db_table}")
    assert standing_of("default").records["completed"] == 0


def test_only_stores_on_a_database_are_looked_at() -> None:
    memory = {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}
    database = {"BACKEND": "django_idempotency.stores.database.DatabaseStore"}
    with override_settings(IDEMPOTENCY_STORES={"default": database, "again": database, "fast": memory}):
        assert databases() == ["default"]
    with override_settings(IDEMPOTENCY_STORES={"default": memory}):
        assert list(standings()) == []

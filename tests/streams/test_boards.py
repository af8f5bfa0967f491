"""What a monitor sees of streams: what waits, since when, and how far consumers are behind."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_idempotency.gauges import registered
from django_idempotency.models import OutboxEvent
from django_idempotency.streams.boards import read
from tests.contrib.standing import HOUR, add_streams

pytestmark = pytest.mark.django_db


def told() -> dict[tuple[str, ...], float]:
    return {(reading.gauge.name, *reading.values): reading.value for reading in read("default")}


def test_what_waits_is_told_with_its_age_and_what_is_done_with_is_not() -> None:
    add_streams()
    now = told()
    ages = {name: now.pop(name) for name in list(now) if name[0].endswith("_seconds")}
    assert now == {
        ("outbox_events", "pending"): 2,
        ("outbox_events", "parked"): 1,
        ("parked_events",): 1,
        ("consumer_lag", "billing", "orders", "3"): 10,
        ("consumer_replay_left", "billing", "orders", "3"): 60,
        ("consumer_replay_left", "mail", "orders", "0"): 0,
    }
    hour = HOUR.total_seconds()
    assert 2 * hour <= ages["outbox_oldest_pending_seconds",] < 2 * hour + 60
    assert hour <= ages["consumer_idle_seconds", "billing", "orders", "3"] < hour + 60
    assert len(ages) == 2


def test_where_nothing_is_there_is_nothing_to_wait_for() -> None:
    assert told() == {
        ("outbox_events", "pending"): 0,
        ("outbox_events", "parked"): 0,
        ("outbox_oldest_pending_seconds",): 0,
        ("parked_events",): 0,
    }


def test_monitors_are_shown_them() -> None:
    (board,) = [board for board in registered() if board.name == "streams"]
    assert set(board.aliases()) == {"default"}
    assert {reading.gauge for reading in read("default")} <= set(board.gauges)


def test_the_statements_do_not_grow_with_the_rows() -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            told()
        return len(queries)

    empty = cost()
    add_streams()
    assert cost() == empty <= 5


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_what_is_published_is_not_read() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO idempotency_outboxevent (event_id, topic, business_key, headers, lane, status, attempts, "
            "error, created_at, published_at) SELECT gen_random_uuid(), 'orders', 'a', '{}', 0, 'published', 0, '', "
            "now(), now() FROM generate_series(1, 20000)"
        )
        cursor.execute("VACUUM ANALYZE idempotency_outboxevent")
        cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_reset()")
    told()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = %s", [OutboxEvent._meta.db_table])
        assert cursor.fetchone() == (0,)

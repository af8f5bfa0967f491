"""Outbox, inbox and offsets in the admin: found along an index, read, and never edited."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from django_idempotency.admin.walks import COUNTED
from tests.admin.streaming import HOSTILE, make_consumed, make_offset, make_outbox, make_parked

MAKERS: dict[str, Any] = {
    "outboxevent": make_outbox,
    "consumedevent": make_consumed,
    "parkedevent": make_parked,
    "consumeroffset": make_offset,
}


@pytest.fixture
def desk(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def listing(page: str) -> str:
    return reverse(f"admin:idempotency_{page}_changelist")


def page_of(page: str, row: Any) -> str:
    return reverse(f"admin:idempotency_{page}_change", args=[row.pk])


def shown(desk: Client, page: str, **query: str) -> list[int]:
    """Return the ids of the rows that a list shows, in its order."""
    response = desk.get(listing(page), query)
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


@pytest.mark.parametrize("page", MAKERS)
def test_rows_are_shown_as_text_without_their_payload(desk: Client, page: str) -> None:
    row = MAKERS[page](topic=HOSTILE)
    for address in (listing(page), page_of(page, row)):
        text = desk.get(address).content.decode()
        assert HOSTILE not in text
        assert "&lt;script&gt;" in text
        assert "canarybody" not in text


@pytest.mark.parametrize("page", ["outboxevent", "parkedevent"])
def test_the_size_of_a_payload_is_told(desk: Client, page: str) -> None:
    assert "27\xa0bytes" in desk.get(page_of(page, MAKERS[page]())).content.decode()
    assert "the key is gone" in desk.get(page_of(page, MAKERS[page](payload=None))).content.decode()


@pytest.mark.parametrize("page", MAKERS)
def test_nobody_can_add_change_or_delete_rows(desk: Client, page: str) -> None:
    row = MAKERS[page]()
    assert desk.get(reverse(f"admin:idempotency_{page}_add")).status_code == 403
    assert desk.get(reverse(f"admin:idempotency_{page}_delete", args=[row.pk])).status_code == 403
    assert desk.post(page_of(page, row), {"topic": "another"}).status_code == 403
    desk.post(listing(page), {"action": "delete_selected", "_selected_action": [row.pk]})
    assert type(row).objects.get(pk=row.pk).topic == "orders"


def test_the_outbox_shows_what_was_refused_above_the_rest(desk: Client) -> None:
    parked, pending, published = (make_outbox(status) for status in ("parked", "pending", "published"))
    assert shown(desk, "outboxevent") == [parked.pk, published.pk, pending.pk]
    for row in (parked, pending, published):
        assert shown(desk, "outboxevent", status=row.status) == [row.pk]
    other = make_outbox("published", topic="payments")
    assert shown(desk, "outboxevent", topic="payments") == [other.pk]
    assert shown(desk, "outboxevent", topic="payments", status="published") == [other.pk]
    assert shown(desk, "outboxevent", status="nonsense") == []


def test_events_are_found_by_their_id_and_those_of_the_outbox_by_business_key(desk: Client) -> None:
    event, other = make_outbox(), make_outbox(business_key="order-2", topic="payments")
    assert shown(desk, "outboxevent", q=str(event.event_id)) == [event.pk]
    assert shown(desk, "outboxevent", q="order-2") == [other.pk]
    assert shown(desk, "outboxevent", q="order") == []
    seen = [make_consumed(event_id=event.event_id, group=group) for group in ("billing", "mail")]
    make_consumed()
    assert shown(desk, "consumedevent", q=str(event.event_id)) == [row.pk for row in reversed(seen)]
    assert shown(desk, "consumedevent", q=str(uuid.uuid4())) == shown(desk, "consumedevent", q="nonsense") == []


def test_the_inbox_is_narrowed_down_by_group_and_outcome(desk: Client) -> None:
    one, other = make_consumed(), make_consumed(group="mail", outcome="failed")
    assert shown(desk, "consumedevent") == [other.pk, one.pk]
    assert shown(desk, "consumedevent", group="mail") == [other.pk]
    assert shown(desk, "consumedevent", outcome="executed") == [one.pk]


def test_lag_and_replay_are_told_by_partition(desk: Client) -> None:
    make_offset()
    make_offset(partition=1, next_offset=4000, read_offset=1000)
    make_offset(partition=2, end_offset=None)
    text = desk.get(listing("consumeroffset")).content.decode()
    assert '<td class="field-lag">321</td>' in text
    assert "1000 / 4000 (25 %)" in text
    assert '<td class="field-lag">-</td>' in text
    assert text.count(" %)") == 1


@pytest.mark.parametrize("page", ["outboxevent", "consumedevent"])
def test_a_list_goes_on_behind_its_last_row(desk: Client, page: str) -> None:
    rows = [MAKERS[page]() for _ in range(60)]
    first = desk.get(listing(page))
    cursor = str(first.context["cl"].page.older)
    assert [row.pk for row in first.context["cl"].result_list] == [row.pk for row in rows[:9:-1]]
    assert shown(desk, page, after=cursor) == [row.pk for row in rows[9::-1]]


@pytest.mark.postgresql
def test_no_list_reads_a_whole_table(desk: Client, many: None) -> None:
    for page, query in QUERIES:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_reset()")
        assert desk.get(listing(page), query).status_code == 200
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = %s", [f"idempotency_{page}"])
            # A count may begin to read, and ends where a person pages no further.
            assert cursor.fetchone()[0] <= COUNTED + 50, (page, query)


QUERIES: list[tuple[str, dict[str, str]]] = [
    ("outboxevent", {}),
    ("outboxevent", {"status": "pending"}),
    ("outboxevent", {"status": "parked"}),
    ("outboxevent", {"status": "published"}),
    ("outboxevent", {"topic": "topic-1"}),
    ("outboxevent", {"q": "key-of-nobody"}),
    ("consumedevent", {}),
    ("consumedevent", {"group": "mail"}),
    ("consumedevent", {"q": "0193f1aa-0000-7000-8000-000000000000"}),
]


@pytest.fixture
def many(transactional_db: None) -> None:
    """As many rows as make a plan matter, nearly all of them done with."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO idempotency_outboxevent (event_id, topic, business_key, headers, lane, status, attempts, "
            "error, created_at, published_at) SELECT gen_random_uuid(), 'topic-' || n % 3, 'key-' || n, '{}', n % 64, "
            "CASE WHEN n = 0 THEN 'parked' WHEN n > 39990 THEN 'pending' ELSE 'published' END, 0, '', now(), "
            "CASE WHEN n BETWEEN 1 AND 39990 THEN now() - n * interval '1 second' END "
            "FROM generate_series(0, 40000) AS n"
        )
        cursor.execute(
            'INSERT INTO idempotency_consumedevent ("group", event_id, topic, partition, "offset", business_key, '
            "event_at, consumed_at, outcome) SELECT CASE WHEN n % 100 = 0 THEN 'mail' ELSE 'billing' END, "
            "gen_random_uuid(), 'orders', 0, n, 'key-' || n, now(), now(), 'executed' "
            "FROM generate_series(0, 40000) AS n"
        )
        cursor.execute("VACUUM ANALYZE idempotency_outboxevent, idempotency_consumedevent")

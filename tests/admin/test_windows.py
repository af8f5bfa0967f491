"""What windows have accepted can be read and found in the admin, and only that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from django_idempotency.admin.names import names
from django_idempotency.models import DedupEntry, DedupInterval

HOSTILE = "<script>alert(1)</script>"
AT = datetime(2026, 3, 1, 6, tzinfo=UTC)
PAGES = ["dedupentry", "dedupinterval"]
WINDOWS = [HOSTILE, "bank-feed", "till"]


@pytest.fixture
def desk(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def rows(transactional_db: None) -> dict[str, Any]:
    """Two rows of each window in each table, the digest of the first of which is all ``ab``."""
    for number, window in enumerate([*WINDOWS, *WINDOWS]):
        common = {"name": window, "digest": bytes([0xAB + number] * 32), "expires_at": AT}
        DedupEntry.objects.create(**common, first_seen_at=AT, last_seen_at=AT, hits=4242)
        DedupInterval.objects.create(**common, starts_at=AT, ends_at=AT.replace(day=2), seen_at=AT)
    return {"dedupentry": DedupEntry.objects.earliest("id"), "dedupinterval": DedupInterval.objects.earliest("id")}


def listing(page: str) -> str:
    return reverse(f"admin:idempotency_{page}_changelist")


@pytest.mark.parametrize("page", PAGES)
def test_the_list_and_the_page_show_a_row_as_text(desk: Client, rows: dict[str, Any], page: str) -> None:
    change = reverse(f"admin:idempotency_{page}_change", args=[rows[page].pk])
    for address in (listing(page), change):
        shown = desk.get(address).content.decode()
        assert "abababab" in shown
        assert "March 1, 2026" in shown
        assert "&lt;script&gt;" in shown
        assert HOSTILE not in shown
    assert "ab" * 32 in desk.get(change).content.decode()
    assert ("4242" in desk.get(listing(page)).content.decode()) is (page == "dedupentry")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    ("term", "is_found"), [("abababab", True), ("AB" * 32, True), ("abababac", False), ("ab", False)]
)
def test_rows_are_found_by_digest(desk: Client, rows: dict[str, Any], page: str, term: str, is_found: bool) -> None:
    shown = desk.get(listing(page), {"q": term}).content.decode()
    assert (f"/{page}/{rows[page].pk}/change/" in shown) is is_found


@pytest.mark.parametrize("page", PAGES)
def test_the_list_is_narrowed_down_by_window_without_reading_the_table(
    desk: Client, rows: dict[str, Any], page: str, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(9) as queries:
        shown = desk.get(listing(page), {"name": "till"}).content.decode()
    assert not any("DISTINCT" in query["sql"] for query in queries)
    assert shown.count("/change/") == 2
    assert "?name=bank-feed" in shown


def test_names_are_found_in_any_number(rows: dict[str, Any]) -> None:
    assert names(DedupEntry.objects.all()) == sorted(WINDOWS)
    DedupEntry.objects.all().delete()
    assert names(DedupEntry.objects.all()) == []


@pytest.mark.postgresql
def test_names_are_leapt_to_along_the_index(transactional_db: None) -> None:
    DedupEntry.objects.bulk_create(
        DedupEntry(name=f"window {n % 3}", digest=n.to_bytes(32), first_seen_at=AT, last_seen_at=AT, expires_at=AT)
        for n in range(30_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE idempotency_dedupentry")
        cursor.execute(
            "SELECT pg_stat_force_next_flush(), pg_stat_reset_single_table_counters(%s::regclass)",
            ["idempotency_dedupentry"],
        )
        assert names(DedupEntry.objects.all()) == ["window 0", "window 1", "window 2"]
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'idempotency_dedupentry'")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize("page", PAGES)
def test_nobody_can_add_change_or_delete_rows(desk: Client, rows: dict[str, Any], page: str) -> None:
    pk = rows[page].pk
    for name, arguments in (("add", []), ("delete", [pk])):
        assert desk.get(reverse(f"admin:idempotency_{page}_{name}", args=arguments)).status_code == 403
    assert desk.post(reverse(f"admin:idempotency_{page}_change", args=[pk]), {"name": "x"}).status_code == 403
    data: dict[str, Any] = {"action": "delete_selected", "_selected_action": [pk]}
    desk.post(listing(page), data)
    assert type(rows[page]).objects.get(pk=pk).name == HOSTILE

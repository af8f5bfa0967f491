"""Records in the admin can be read, and only read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, QueryDict
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from django.utils.http import urlencode

from django_idempotency.admin import RecordAdmin, limits, lists, timeline, walks
from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.leases import Lease
from django_idempotency.models import Record
from django_idempotency.stores import get_store
from django_idempotency.testing import make_operation
from tests.admin.desks import LIST, make_events, make_record, make_waiting, page_of, staff
from tests.callers import Caller, new_key

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def record(alice: Caller) -> Record:
    alice.post("/payments/", {"amount": 3, "reference": HOSTILE}, key=new_key())
    return Record.objects.get()


def test_the_list_shows_and_finds_records_by_key(desk: Client, record: Record) -> None:
    address = reverse("admin:idempotency_record_changelist")
    page = desk.get(address).content.decode()
    assert "POST payment-list" in page
    assert bytes(record.digest[:4]).hex() in page
    assert "POST payment-list" in desk.get(address, {"q": record.key}).content.decode()
    assert "POST payment-list</td>" not in desk.get(address, {"q": record.key[:-1]}).content.decode()


def test_the_page_of_a_record_shows_what_is_known_but_not_the_body(desk: Client, record: Record) -> None:
    page = desk.get(page_of(record)).content.decode()
    assert bytes(record.fingerprint).hex() in page
    assert "Content-Type: application/json" in page
    assert f"{len(bytes(record.response_body or b''))}\xa0bytes" in page
    assert record.key in page
    assert "alert(1)" not in page


def test_nobody_can_add_change_or_delete_records(desk: Client, record: Record) -> None:
    for name, arguments in (("add", []), ("delete", [record.pk])):
        assert desk.get(reverse(f"admin:idempotency_record_{name}", args=arguments)).status_code == 403
    change = reverse("admin:idempotency_record_change", args=[record.pk])
    assert desk.post(change, {"key": "another"}).status_code == 403
    data: dict[str, Any] = {"action": "delete_selected", "_selected_action": [record.pk]}
    desk.post(reverse("admin:idempotency_record_changelist"), data)
    assert Record.objects.filter(pk=record.pk, key=record.key).exists()


@pytest.fixture
def broken(transactional_db: None) -> Record:
    """A record of unknown outcome, after a step whose result is nobody's business."""
    store = get_store()
    lease = store.reserve(make_operation(), lease=timedelta(minutes=1), ttl=timedelta(days=1))
    assert isinstance(lease, Lease)
    lease.step("reserve", lambda: HOSTILE)
    with pytest.raises(OSError, match="broke off"):
        lease.step("<i>transfer</i>", break_off)
    store.release(lease, unknown=True)
    return Record.objects.get(status="unknown")


def break_off() -> None:
    raise OSError("broke off")


def test_the_page_of_a_record_shows_how_far_it_got(desk: Client, broken: Record) -> None:
    page = desk.get(reverse("admin:idempotency_record_change", args=[broken.pk])).content.decode()
    assert "unknown" in page
    assert "reserve: done" in page
    assert "&lt;i&gt;transfer&lt;/i&gt;: begun" in page
    assert "<i>transfer" not in page
    assert "alert(1)" not in page
    assert Record.objects.update(status="in_progress", lease_expires_at=datetime(2031, 5, 4, tzinfo=UTC)) == 1
    assert "2031" in desk.get(reverse("admin:idempotency_record_change", args=[broken.pk])).content.decode()


def shows(page: str, record: Record) -> bool:
    return f"/record/{record.pk}/change/" in page


def test_the_list_is_narrowed_down_by_outcome(desk: Client) -> None:
    an_hour_ago = timezone.now() - timedelta(hours=1)
    records = {
        "executed": make_record(),
        "taken_over": make_record(attempt=2),
        "expired": make_record(expires_at=an_hour_ago),
        "in_progress": make_waiting("in_progress"),
        "stuck": make_waiting("in_progress", lapsed=True),
        "unknown": make_waiting("unknown"),
        "released": make_waiting("released"),
    }
    wider = {"taken_over": "executed", "expired": "executed", "stuck": "in_progress"}
    for outcome, record in records.items():
        page = desk.get(reverse(LIST), {"outcome": outcome}).content.decode()
        assert f'<td class="field-outcome">{outcome.replace("_", " ").replace("taken over", "executed")}</td>' in page
        shown = {name for name, one in records.items() if shows(page, one)}
        assert shows(page, record)
        assert shown == {name for name in records if outcome in (name, wider.get(name))}
    page = desk.get(reverse(LIST), {"outcome": "waiting"}).content.decode()
    assert {name for name, one in records.items() if shows(page, one)} == {*list(records)[3:]}
    page = desk.get(reverse(LIST), {"outcome": "none of these"}).content.decode()
    assert not any(shows(page, one) for one in records.values())


def test_the_list_is_narrowed_down_by_response_operation_scope_and_time(desk: Client) -> None:
    usual = make_record()
    for parameter, value, record in (
        ("response", "4", make_record(response_status=409)),
        ("operation", "POST <b>", make_record(operation="POST <b>")),
        ("scope", "tenant:7 / auth.user:2", make_record(scope="tenant:7 / auth.user:2")),
    ):
        page = desk.get(reverse(LIST), {parameter: value}).content.decode()
        assert shows(page, record)
        assert not shows(page, usual)
        assert "<b>" not in page
    old = make_record(at=timezone.now() - timedelta(days=2))
    for window, is_shown in (("", False), ("1h", False), ("24h", False), ("7d", True), ("30d", True), ("all", True)):
        page = desk.get(reverse(LIST), {"window": window} if window else {}).content.decode()
        assert shows(page, old) is is_shown
        assert shows(page, usual)


def test_what_waits_stands_above_the_newest_whatever_its_age(desk: Client) -> None:
    stuck = make_waiting("in_progress", lapsed=True, at=timezone.now() - timedelta(days=90))
    newest = make_record()
    page = desk.get(reverse(LIST)).content.decode()
    assert 0 < page.index(f"/record/{stuck.pk}/change/") < page.index(f"/record/{newest.pk}/change/")


def test_a_search_finds_records_of_any_age_by_what_names_them_exactly(desk: Client) -> None:
    long_ago = timezone.now() - timedelta(days=60)
    record = make_record(at=long_ago, request_id="req-42", scope="tenant:9")
    other = make_record()
    digest = bytes(record.digest).hex()
    for term in (record.key, digest, digest[:8].upper(), "req-42", "tenant:9", f" {record.key} "):
        page = desk.get(reverse(LIST), {"q": term}).content.decode()
        assert shows(page, record), term
        assert not shows(page, other), term
    for term in (record.key[:-1], digest[:7], "req-4", "tenant:", "%", "_"):
        assert ">0 rows<" in desk.get(reverse(LIST), {"q": term}).content.decode(), term


def test_a_key_that_is_not_kept_is_hashed_within_the_chosen_scope(desk: Client) -> None:
    name = IdempotencyKey(value="sent-by-the-client", scope=("tenant:7", "auth.user:2"), operation="POST payment-list")
    record = make_record(key="", digest=name.digest, scope="tenant:7 / auth.user:2")
    chosen = {"q": "sent-by-the-client", "scope": record.scope, "window": "all"}
    for filters in ({}, {"operation": record.operation}):
        assert shows(desk.get(reverse(LIST), {**chosen, **filters}).content.decode(), record)
    assert ">0 rows<" in desk.get(reverse(LIST), {**chosen, "scope": "tenant:8"}).content.decode()
    assert ">0 rows<" in desk.get(reverse(LIST), {"q": "sent-by-the-client"}).content.decode()


def test_no_other_lookup_is_allowed_since_it_would_tell_what_is_masked(auditor: Client) -> None:
    record = make_record()
    for lookup in ("key__startswith", "response_body__contains", "key", "scope__icontains", "status__exact", "o"):
        response = auditor.get(reverse(LIST), {lookup: record.key})
        assert response.status_code == (200 if lookup == "o" else 400), lookup


@pytest.mark.parametrize("parameters", [{}, {"window": "all"}, {"scope": "auth.user:1"}, {"response": "2"}])
def test_pages_follow_each_other_without_a_gap_or_a_repetition(desk: Client, parameters: dict[str, str]) -> None:
    moment = timezone.now() - timedelta(minutes=5)
    # Several were completed at the same moment, across the ends of pages.
    made = [make_record(at=moment + timedelta(seconds=number // 40)) for number in range(130)]
    seen, query = [], f"?{urlencode(parameters)}"
    for _page in range(3):
        page = desk.get(reverse(LIST) + query).content.decode()
        seen += re.findall(r"/record/(\d+)/change/", page)
        older = re.search(r'class="idempotency-older" rel="next" href="([^"]+)"', page)
        query = older[1].replace("&amp;", "&") if older else ""
    assert query == ""
    assert [int(pk) for pk in seen] == [record.pk for record in reversed(made)]


def test_a_filter_that_no_index_serves_looks_through_so_many_rows_at_a_time(
    desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "DEPTH", 10)
    rare = make_record(response_status=418)
    for _number in range(25):
        make_record()
    query, pages = "?response=4", 0
    while True:
        page = desk.get(reverse(LIST) + query).content.decode()
        pages += 1
        if shows(page, rare):
            break
        assert "older ones may match" in page
        older = re.search(r'class="idempotency-older" rel="next" href="([^"]+)"', page)
        assert older
        query = older[1].replace("&amp;", "&")
    assert pages == 3


@pytest.mark.parametrize(
    "after", ["x", "~", "2026~x", "1~2~3", "999999999999999999999999~1", "-1", "2026-01-01T00:00:00~1"]
)
def test_a_place_that_is_none_leads_back_to_the_list(desk: Client, after: str) -> None:
    make_record()
    response = desk.get(reverse(LIST), {"after": after})
    assert response.status_code == 302


def test_counts_are_given_up_where_nobody_needs_them(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "COUNTED", 2)
    monkeypatch.setattr(lists, "COUNTED", 2)
    make_record()
    assert ">1 row<" in desk.get(reverse(LIST)).content.decode()
    make_record()
    make_record()
    assert ">more than 2 rows<" in desk.get(reverse(LIST)).content.decode()


@pytest.mark.postgresql
def test_the_size_of_the_whole_table_is_what_the_database_thinks(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "COUNTED", 2)
    for _number in range(5):
        make_record()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE idempotency_record")
    assert "about 5 rows" in desk.get(reverse(LIST), {"window": "all"}).content.decode()


@pytest.mark.postgresql
def test_a_list_that_takes_too_long_is_given_up(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATEMENT_TIMEOUT", 50)

    def slow(*args: Any) -> list[Record]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
        raise AssertionError("not given up")

    monkeypatch.setattr(RecordAdmin, "heads", slow)
    response = desk.get(reverse(LIST))
    assert response.status_code == 503
    assert "asked to stop" in response.content.decode()
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def test_the_page_tells_what_happened_in_order(auditor: Client) -> None:
    record = make_record(at=timezone.now() - timedelta(hours=3))
    digest = bytes(record.digest)
    make_events("replayed", 3, digest=digest, at=timezone.now() - timedelta(hours=2), status=201)
    make_events("mismatch", digest=digest, at=timezone.now() - timedelta(hours=1), status=422)
    make_events("replayed", digest=bytes(32))
    page = auditor.get(page_of(record)).content.decode()
    timeline = page[page.index('id="idempotency-timeline"') :]
    moments = re.findall(
        r"<td>([^<]*)</td>\s*<td>[^<]*</td>\s*<td>[^<]*</td>\s*<td>[^<]*</td>\s*<td>[^<]*</td>\s*</tr>", timeline
    )
    assert moments == ["claimed", "executed", "replayed ×3", "mismatch", "expires"]


def test_old_events_beyond_a_number_are_left_to_the_list_of_events(
    auditor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "SHOWN", 2)
    record = make_record()
    for number in range(3):
        make_events("replayed", digest=bytes(record.digest), reason=f"number {number}")
    page = auditor.get(page_of(record)).content.decode()
    assert "Older events are not shown" in page
    assert [f"number {number}" in page for number in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("about", "is_linked"),
    [
        ("auth.user:{pk}", True),
        ("auth.user", False),
        ("no.model:1", False),
        ("tests.payment:1", False),
        ("<i>:1", False),
    ],
)
def test_what_the_view_named_is_linked_if_the_admin_has_it(desk: Client, about: str, is_linked: bool) -> None:
    admin = User.objects.get(username="admin")
    about = about.format(pk=admin.pk)
    page = desk.get(page_of(make_record(about=about))).content.decode()
    assert (f'/auth/user/{admin.pk}/change/">{about}</a>' in page) is is_linked
    assert escape(about) in page
    assert "<i>" not in page


def test_the_page_of_an_operator_of_one_tenant_is_not_found_for_another(transactional_db: None) -> None:
    class TenantAdmin(RecordAdmin):
        def get_queryset(self, request: HttpRequest) -> Any:
            return super().get_queryset(request).filter(scope__startswith=f"tenant:{request.user.get_username()} ")

    site = AdminSite(name="tenants")
    site.register(Record, TenantAdmin)
    mine, other = (make_record(scope=f"tenant:{name} / auth.user:1") for name in ("a", "b"))
    desk = TenantAdmin(Record, site)
    request = RequestFactory().get("/", {"window": "all"})
    request.user = staff("a", "view_record")
    assert desk.get_object(request, str(mine.pk)) == mine
    assert desk.get_object(request, str(other.pk)) is None
    assert desk.get_changelist_instance(request).result_list == [mine]
    request.GET = QueryDict(urlencode({"q": other.key}))
    assert desk.get_changelist_instance(request).result_list == []
    request.GET = QueryDict(urlencode({"q": other.scope}))
    assert desk.get_changelist_instance(request).result_list == []

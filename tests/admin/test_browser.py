"""The desk in a real browser: an auditor, an operator, hostile data, a strict policy, dark, right to left."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from django_idempotency.models import AuditEvent, Record
from tests.admin.browsers import Visitor, browsing, chromium_path, serving
from tests.admin.desks import (
    CANARY_BODY,
    VERBS,
    VIEWS,
    make_events,
    make_record,
    make_waiting,
    staff,
)
from tests.callers import Caller, new_key

pytestmark = [
    pytest.mark.skipif(chromium_path() is None, reason="chromium is not installed"),
    pytest.mark.django_db(transaction=True),
]
PAYLOADS = (
    "<script>window.struck=1</script>",
    "<img src=x onerror=window.struck=1>",
    '"><svg onload=window.struck=1>',
    "' autofocus onfocus=window.struck=1 x='",
    "javascript:window.struck=1",
    "</title></textarea></script><script>alert(1)</script>",
    "<iframe srcdoc='<script>parent.struck=1</script>'></iframe>",
    "{{ request }}{% debug %}",
    "<style>*{display:none}</style>",
    "<a href=javascript:window.struck=1>x</a>",
    "\u202e<b onmouseover=alert(1)>x",
    "<!--><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright")
    with browsing() as opened:
        yield opened


@pytest.fixture
def address(transactional_db: None, settings: Any) -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture
def visitors(browser: Any, address: str) -> Iterator[Any]:
    opened: list[Visitor] = []

    def visit(name: str, *permissions: str, **options: Any) -> Visitor:
        staff(name, *permissions)
        opened.append(Visitor(browser, address, name, **options))
        return opened[-1]

    yield visit
    for visitor in opened:
        visitor.context.close()
    assert [complaint for visitor in opened for complaint in visitor.complaints] == []


def test_an_auditor_finds_a_charge_by_its_key_and_reads_what_happened(visitors: Any, alice: Caller) -> None:
    key = new_key()
    alice.post("/payments/", {"amount": 4200, "reference": CANARY_BODY}, key=key)
    record = Record.objects.get()
    make_record()
    auditor = visitors("auditor", *VIEWS)
    page = auditor.page
    assert page.inner_text("#idempotency-rate") == "0.0 %"
    for minute in range(8):  # as the listener of operation_answered writes a storm down
        at = timezone.now() + timedelta(milliseconds=minute)
        make_events("replayed", at=at, digest=bytes(record.digest), operation=record.operation, status=201)
    auditor.visit("/admin/idempotency/")
    assert page.inner_text("#idempotency-rate") == "80.0 %"
    assert page.inner_text("#idempotency-prevented") == "8"
    assert page.locator("rect.idempotency-replayed title").count() == 1

    page.click("text=Records >> nth=0")
    page.fill("#searchbar", key)
    page.press("#searchbar", "Enter")
    assert page.locator("#result_list tbody tr").count() == 1
    page.click("#result_list tbody th a")
    auditor.look()
    events = page.locator(".idempotency-moment td:nth-child(2)").all_inner_texts()
    assert events == ["claimed", "executed", *["replayed"] * 8, "expires"]
    shown = page.inner_text("#content")
    assert key not in shown
    assert f"{key[:4]}…" in shown
    assert CANARY_BODY not in page.content()
    assert page.locator(".object-tools [class^=idempotency-verb]").count() == 0


def test_an_operator_frees_a_stuck_key_settles_an_unknown_outcome_and_exports(visitors: Any, tmp_path: Path) -> None:
    make_waiting("in_progress", lapsed=True, operation="POST stuck")
    make_waiting("unknown", operation="POST unknown")
    operator = visitors("operator", *VIEWS, *VERBS)
    page = operator.page
    assert page.inner_text("#idempotency-stuck") == "1"
    page.click("#idempotency-stuck a")
    page.click("#result_list tbody th a")
    page.click("text=Release…")
    operator.look()
    page.click("input[type=submit]")  # without a reason
    operator.look()
    assert Record.objects.count() == 2
    page.fill("[name=reason]", "its worker was killed")
    page.click("input[type=submit]")
    assert "The key is free." in page.inner_text(".messagelist")
    assert not Record.objects.filter(operation="POST stuck").exists()

    operator.visit("/admin/idempotency/record/?outcome=unknown")
    page.click("#result_list tbody th a")
    page.click("text=Resolve as done…")
    operator.look()
    page.fill("[name=reason]", "the bank has it")
    page.fill("[name=status]", "201")
    page.fill("[name=body]", '{"id": 7}')
    page.click("input[type=submit]")
    assert "retries get the response" in page.inner_text(".messagelist")
    assert Record.objects.get().response_status == 201
    assert sorted(AuditEvent.objects.values_list("event", "actor")) == [
        ("released", "user:operator"),
        ("resolved_done", "user:operator"),
    ]

    operator.visit("/admin/idempotency/record/")
    with page.expect_download() as download:
        page.click(".idempotency-export button[value=csv]")
    download.value.save_as(tmp_path / "records.csv")
    with (tmp_path / "records.csv").open() as file:
        assert [row["operation"] for row in csv.DictReader(file)] == ["POST unknown"]


def test_hostile_data_is_inert_on_every_page(visitors: Any) -> None:
    for payload in PAYLOADS:
        record = make_record(
            operation=payload,
            scope=payload,
            key=payload[:255],
            request_id=payload[:255],
            about=payload[:255],
            response_headers=[["X-Header", payload], [payload, "x"]],
            response_body=payload.encode(),
        )
        make_waiting("unknown", operation=payload, steps=[{"name": payload, "is_done": False}])
        make_events("replayed", digest=bytes(record.digest), operation=payload, actor=payload, reason=payload)
    operator = visitors("operator", *VIEWS, *VERBS)
    operator.visit("/admin/idempotency/?window=30d")
    for model in ("record", "auditevent", "rollup"):
        operator.visit(f"/admin/idempotency/{model}/")
    completed, waiting = Record.objects.filter(status="completed"), Record.objects.exclude(status="completed")
    for record in completed:
        operator.visit(f"/admin/idempotency/record/{record.pk}/change/")
        operator.visit(f"/admin/idempotency/record/{record.pk}/reveal/")
        operator.page.fill("[name=reason]", PAYLOADS[0])
        operator.page.click("input[type=submit]")
        operator.look()
        assert operator.page.inner_text(".idempotency-body") != ""
    for record in waiting[:3]:
        operator.visit(f"/admin/idempotency/record/{record.pk}/change/")
        operator.visit(f"/admin/idempotency/record/{record.pk}/resolve-done/")
    for event in AuditEvent.objects.order_by("pk")[:3]:
        operator.visit(f"/admin/idempotency/auditevent/{event.pk}/change/")
    for payload in PAYLOADS[:3]:
        operator.page.goto(f"{operator.address}/admin/idempotency/record/")
        operator.page.fill("#searchbar", payload)
        operator.page.press("#searchbar", "Enter")
        operator.look()
        assert operator.page.locator("#result_list tbody tr").count() >= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_theme(visitors: Any, scheme: str) -> None:
    make_record()
    visitor = visitors("auditor", *VIEWS, color_scheme=scheme)
    colours = visitor.page.evaluate(
        """() => [".idempotency-executed", "#content"].map(name => {
            const style = getComputedStyle(document.querySelector("svg.idempotency-bars " + name) || document.body);
            return [style.fill, style.backgroundColor]; })"""
    )
    bar, background = colours[0][0], colours[1][1]
    assert (bar, background) == (
        ("rgb(65, 120, 147)", "rgb(255, 255, 255)") if scheme == "light" else ("rgb(129, 212, 250)", "rgb(18, 18, 18)")
    )


@pytest.mark.parametrize(("language", "direction"), [("de", "ltr"), ("ar", "rtl")])
def test_other_languages_are_spoken_and_time_runs_as_they_are_read(
    visitors: Any, language: str, direction: str
) -> None:
    record = make_record()
    visitor = visitors("auditor", *VIEWS, locale=language)
    page = visitor.page
    assert page.get_attribute("html", "dir") == direction
    first, last = (page.locator(".idempotency-ends span").nth(number).bounding_box()["x"] for number in (0, 1))
    assert (first < last) is (direction == "ltr")
    bar, chart = (
        page.locator(name).first.bounding_box() for name in ("svg.idempotency-bars rect", "svg.idempotency-bars")
    )
    is_right = bar["x"] > chart["x"] + chart["width"] / 2
    assert is_right is (direction == "ltr")
    assert "Duplicate rate" not in page.inner_text("#content")
    for path in ("record/", "auditevent/", f"record/{record.pk}/change/"):
        visitor.visit(f"/admin/idempotency/{path}")
    assert "Timeline" not in page.inner_text("#content")


def test_the_reader_of_a_screen_finds_the_figures_in_a_table(visitors: Any) -> None:
    make_record()
    make_events("replayed", 3)
    page = visitors("auditor", *VIEWS).page
    page.click("details summary:has-text('figures as a table')")
    cells = page.locator(".idempotency-chart tbody tr").last.locator("td").all_inner_texts()
    assert cells == ["1", "3", "0", "0", "0", "4"]
    assert User.objects.count() == 1

"""Exports hold the filtered list, no keys, no bodies, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_idempotency.admin import RecordAdmin, exports, limits
from django_idempotency.admin.exports import harmless
from django_idempotency.models import AuditEvent
from tests.admin.desks import (
    CANARY_BODY,
    CANARY_KEY,
    CANARY_TOKEN,
    VIEWS,
    make_events,
    make_record,
    make_waiting,
    seat,
    staff,
)

pytestmark = pytest.mark.django_db(transaction=True)


def export(client: Client, model: str = "record", file_format: str = "csv", **filters: str) -> Any:
    address = (
        reverse(f"admin:idempotency_{model}_export", query=filters)
        if filters
        else reverse(f"admin:idempotency_{model}_export")
    )
    return client.post(address, {"format": file_format})


def text(response: Any) -> str:
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def rows(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text(response))))


def test_the_file_holds_what_the_list_shows(operator: Client) -> None:
    kept = make_record(response_status=422, request_id="req-1", duration=0.25)
    make_record()
    make_record(response_status=422, at=timezone.now() - timedelta(days=3))
    response = export(operator, response="4")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="records-')
    (row,) = rows(response)
    assert row["digest"] == bytes(kept.digest).hex()
    assert (row["response_status"], row["request_id"], row["duration"]) == ("422", "req-1", "0.25")
    (line,) = text(export(operator, file_format="ndjson", response="4")).splitlines()
    assert json.loads(line)["created_at"] == kept.created_at.isoformat()
    (found,) = rows(export(operator, q=kept.key))
    assert found == row


def test_it_holds_all_pages_in_order_and_no_more_than_the_limit(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_CHUNK", 7)
    waiting = make_waiting("unknown")
    made = [make_record() for _number in range(30)]
    digests = [bytes(record.digest).hex() for record in (waiting, *reversed(made))]
    assert [row["digest"] for row in rows(export(operator))] == digests
    monkeypatch.setattr(RecordAdmin, "export_limit", 12)
    assert [row["digest"] for row in rows(export(operator))] == digests[:12]


def test_it_is_sent_row_by_row(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_CHUNK", 2)
    for _number in range(5):
        make_record()
    lines: Iterator[bytes] = export(operator).streaming_content
    assert next(lines).startswith(b"digest,")
    next(lines)
    newer = make_record()
    assert bytes(newer.digest).hex() not in b"".join(lines).decode()


@pytest.mark.parametrize("model", ["record", "auditevent"])
def test_it_is_for_those_who_may_by_post_alone(auditor: Client, operator: Client, model: str) -> None:
    make_record()
    assert export(auditor, model).status_code == 403
    address = reverse(f"admin:idempotency_{model}_export")
    assert auditor.get(address).status_code == 403
    assert operator.get(address).status_code == 405
    assert export(seat(staff("blind", "export_record")), model).status_code == 403
    assert export(operator, model, "xlsx").status_code == 400
    assert export(operator, model, key__startswith="a").status_code == 400
    listed = reverse(f"admin:idempotency_{model}_changelist")
    assert "idempotency-export" in operator.get(listed).content.decode()
    assert "idempotency-export" not in auditor.get(listed).content.decode()
    assert not AuditEvent.objects.exists()


def test_that_it_was_made_is_audited_without_what_was_searched_for(operator: Client) -> None:
    text(export(operator, window="7d", q=CANARY_KEY))
    event = AuditEvent.objects.get()
    assert (event.event, event.actor, event.operation) == ("exported", "user:operator", "idempotency.record")
    assert json.loads(event.reason) == {"format": "csv", "filters": {"window": "7d"}}
    assert LogEntry.objects.count() == 0


@pytest.mark.parametrize("file_format", ["csv", "ndjson"])
def test_no_key_body_or_header_leaves_the_house(file_format: str) -> None:
    client = seat(staff("exporter", *VIEWS, "export_record", "reveal_body"))
    make_record(key=CANARY_KEY, response_body=CANARY_BODY.encode(), response_headers=[["X-Token", CANARY_TOKEN]])
    make_waiting("unknown", key=CANARY_KEY, steps=[{"name": "a", "is_done": True, "result": CANARY_TOKEN}])
    sent = text(export(client, file_format=file_format))
    assert "POST payment-list" in sent
    assert "canary" not in sent


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "＝", "＠"])
def test_a_cell_that_a_spreadsheet_would_run_is_defused(operator: Client, start: str) -> None:
    hostile = f"{start}HYPERLINK(A1)"
    make_record(operation=hostile, scope=hostile, request_id=hostile)
    (row,) = rows(export(operator))
    assert {row[name] for name in ("operation", "scope", "request_id")} == {f"'{hostile}"}
    make_events("replayed", operation=hostile, reason=hostile, actor=hostile)
    found = next(row for row in rows(export(operator, "auditevent")) if row["event"] == "replayed")
    assert {found[name] for name in ("operation", "actor", "reason")} == {f"'{hostile}"}


def test_other_cells_are_left_as_they_are() -> None:
    for value in ("a=b", "", "POST x", 5, -5, 0.5):
        assert harmless(value) == value
    assert harmless(None) == ""


@pytest.mark.postgresql
def test_an_export_whose_list_takes_too_long_is_refused(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATEMENT_TIMEOUT", 50)
    monkeypatch.setattr(RecordAdmin, "heads", lambda self, cl: list(cl.queryset.extra(where=["pg_sleep(5) IS NULL"])))
    make_record()
    assert export(operator).status_code == 503
    assert not AuditEvent.objects.exists()

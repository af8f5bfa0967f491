"""``idempotency_purge`` deletes records and audit events that have expired, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from django_idempotency import retention
from django_idempotency.core.records import Claim
from django_idempotency.models import AuditEvent, Record
from django_idempotency.signals import rows_purged
from django_idempotency.stores import get_store
from django_idempotency.testing import CREATED, make_operation
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)


def keep(*, expired: int = 0, live: int = 0, store: str = "default") -> None:
    backend = get_store(store)
    for ttl in [timedelta(0)] * expired + [timedelta(days=1)] * live:
        with backend.transaction():
            claim = backend.claim(make_operation())
            assert isinstance(claim, Claim)
            backend.complete(claim, CREATED, ttl=ttl)


def done(records: tuple[int, int], audit: tuple[int, int], *, complete: bool = True) -> dict[str, Any]:
    """Return what the command prints: rows and batches of each table."""
    counts = {"records": records, "audit": audit}
    tables = {name: {"deleted": deleted, "batches": batches} for name, (deleted, batches) in counts.items()}
    return {"tables": tables, "complete": complete}


@contextmanager
def told() -> Iterator[list[tuple[str, int]]]:
    """Yield what ``rows_purged`` tells."""
    facts: list[tuple[str, int]] = []

    def listen(*, table: str, count: int, **rest: Any) -> None:
        facts.append((table, count))

    rows_purged.connect(listen)
    try:
        yield facts
    finally:
        rows_purged.disconnect(listen)


TOLD = ("records", "audit", "payments")  # of the tables that every room has registered


def note(*, days_ago: float, count: int = 1) -> None:
    at = timezone.now() - timedelta(days=days_ago)
    AuditEvent.objects.bulk_create(
        [AuditEvent(event="released", digest=bytes(32), attempt=1, at=at) for _ in range(count)]
    )


def purge(*arguments: str) -> Any:
    output = StringIO()
    call_command("idempotency_purge", *arguments, stdout=output, stderr=StringIO())
    if "--json" not in arguments:
        return "".join(line for line in output.getvalue().splitlines(keepends=True) if line.split(":")[0] in TOLD)
    return of_interest(json.loads(output.getvalue()))


def of_interest(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave out the tables that other rooms have registered."""
    return {**facts, "tables": {name: counts for name, counts in facts["tables"].items() if name in TOLD}}


def test_it_deletes_expired_records_in_batches() -> None:
    keep(expired=5, live=2)
    with told() as facts:
        assert purge("--json", "--batch-size=2", "--pause=0") == done((5, 3), (0, 0))
    assert facts == [("records", 5)]
    assert Record.objects.count() == 2


def test_a_dry_run_only_counts() -> None:
    keep(expired=3, live=1)
    note(days_ago=8, count=2)
    nothing = {"deleted": 0, "batches": 0}
    tables = {"records": {"expired": 3, **nothing}, "audit": {"expired": 2, **nothing}}
    with told() as facts:
        assert purge("--json", "--dry-run") == {"tables": tables, "complete": False}
        assert purge("--dry-run") == "records: 3 would be deleted.\naudit: 2 would be deleted.\n"
    assert facts == []
    assert (Record.objects.count(), AuditEvent.objects.count()) == (4, 2)


def test_it_deletes_audit_events_when_their_time_is_over() -> None:
    note(days_ago=8, count=3)
    note(days_ago=6)
    with override_settings(IDEMPOTENCY_AUDIT_TTL=timedelta(days=9)):
        assert purge("--json")["tables"]["audit"]["deleted"] == 0
    with told() as facts:
        assert purge("--json", "--batch-size=2", "--pause=0") == done((0, 0), (3, 2))
    assert facts == [("audit", 3)]
    assert AuditEvent.objects.count() == 1


def test_it_stops_when_its_time_is_up() -> None:
    keep(expired=3)
    note(days_ago=8, count=2)
    assert purge("--json", "--batch-size=1", "--max-seconds=0") == done((1, 1), (0, 0), complete=False)
    purge("--batch-size=1", "--max-seconds=0")
    assert (Record.objects.count(), AuditEvent.objects.filter(event="released").count()) == (1, 2)
    purge("--batch-size=1", "--max-seconds=0")
    assert purge("--json", "--batch-size=1", "--max-seconds=0") == done((0, 0), (1, 1), complete=False)


def test_it_says_what_it_did() -> None:
    keep(expired=2)
    note(days_ago=8)
    said = "records: {} deleted in {} batches.\naudit: {} deleted in {} batches.\n"
    assert purge() == said.format(2, 1, 1, 1)
    assert purge() == said.format(0, 0, 0, 0)


def test_only_the_tables_that_are_named_are_purged() -> None:
    keep(expired=2)
    note(days_ago=8)
    assert purge("--only=audit") == "audit: 1 deleted in 1 batches.\n"
    assert (Record.objects.count(), AuditEvent.objects.count()) == (2, 0)
    assert purge("--only=records", "--only=audit") == (
        "records: 2 deleted in 1 batches.\naudit: 0 deleted in 0 batches.\n"
    )


def test_a_table_that_a_room_registers_is_purged_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    Payment.objects.create(amount=1)
    Payment.objects.create(amount=2)
    room = retention.Retention(
        name="payments",
        model=Payment,
        expired=lambda alias: Payment.objects.using(alias).filter(amount=1),
        order_by="id",
    )
    monkeypatch.setattr(retention, "_retentions", {**retention._retentions, "payments": room})
    assert purge("--json", "--dry-run")["tables"]["payments"]["expired"] == 1
    with told() as facts:
        assert purge("--json")["tables"]["payments"] == {"deleted": 1, "batches": 1}
    assert facts == [("payments", 1)]
    assert Payment.objects.get().amount == 2


def test_what_was_deleted_is_told_also_where_the_rest_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(expired=2)
    note(days_ago=8)

    def fail(*args: Any, **options: Any) -> Any:
        raise OSError("the database is gone")

    monkeypatch.setattr(retention, "purge_batch", fail)
    with told() as facts, pytest.raises(OSError, match="gone"):
        purge()
    assert facts == [("records", 2)]


TWO_STORES = {
    "default": {"BACKEND": "django_idempotency.stores.database.DatabaseStore"},
    "memory": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"},
    "same table": {"BACKEND": "django_idempotency.stores.database.DatabaseStore"},
}


@override_settings(IDEMPOTENCY_STORES=TWO_STORES)
def test_all_stores_are_purged_unless_one_is_named() -> None:
    for store in TWO_STORES:
        keep(expired=1, store=store)
    note(days_ago=8)
    assert purge("--dry-run") == "records: 3 would be deleted.\naudit: 1 would be deleted.\n"
    assert purge("--store=memory") == "records: 1 deleted in 1 batches.\n"
    assert purge("--json") == done((2, 1), (1, 1))


@override_settings(IDEMPOTENCY_STORES={"default": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}})
def test_a_store_without_a_database_has_no_audit_events() -> None:
    note(days_ago=8)
    keep(expired=1)
    assert purge("--dry-run") == "records: 1 would be deleted.\n"
    assert purge() == "records: 1 deleted in 1 batches.\n"


@pytest.mark.parametrize(
    "argument", ["--batch-size=0", "--pause=-1", "--max-seconds=-1", "--store=elsewhere", "--only=elsewhere"]
)
def test_a_senseless_argument_is_an_error(argument: str) -> None:
    keep(expired=1)
    with pytest.raises(CommandError):
        purge(argument)
    assert Record.objects.count() == 1

"""``idempotency_purge`` deletes records and audit events that have expired, and nothing else."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from django_idempotency.core.records import Claim
from django_idempotency.models import AuditEvent, Record
from django_idempotency.stores import get_store
from django_idempotency.testing import CREATED, make_operation

pytestmark = pytest.mark.django_db(transaction=True)


def keep(*, expired: int = 0, live: int = 0) -> None:
    store = get_store()
    for ttl in [timedelta(0)] * expired + [timedelta(days=1)] * live:
        with store.transaction():
            claim = store.claim(make_operation())
            assert isinstance(claim, Claim)
            store.complete(claim, CREATED, ttl=ttl)


def note(*, days_ago: float, count: int = 1) -> None:
    at = timezone.now() - timedelta(days=days_ago)
    AuditEvent.objects.bulk_create(
        [AuditEvent(event="released", digest=bytes(32), attempt=1, at=at) for _ in range(count)]
    )


def purge(*arguments: str) -> Any:
    output = StringIO()
    call_command("idempotency_purge", *arguments, stdout=output, stderr=StringIO())
    return json.loads(output.getvalue()) if "--json" in arguments else output.getvalue()


def test_it_deletes_expired_records_in_batches() -> None:
    keep(expired=5, live=2)
    facts = purge("--json", "--batch-size=2", "--pause=0")
    assert facts == {"deleted": 5, "batches": 3, "audit_deleted": 0, "audit_batches": 0, "complete": True}
    assert Record.objects.count() == 2


def test_a_dry_run_only_counts() -> None:
    keep(expired=3, live=1)
    note(days_ago=8, count=2)
    facts = {"expired": 3, "deleted": 0, "audit_expired": 2, "audit_deleted": 0, "complete": False}
    assert purge("--json", "--dry-run") == facts
    assert purge("--dry-run") == "3 expired records would be deleted.\n2 audit events would be deleted.\n"
    assert (Record.objects.count(), AuditEvent.objects.count()) == (4, 2)


def test_it_deletes_audit_events_when_their_time_is_over() -> None:
    note(days_ago=8, count=3)
    note(days_ago=6)
    with override_settings(IDEMPOTENCY_AUDIT_TTL=timedelta(days=9)):
        assert purge("--json")["audit_deleted"] == 0
    facts = purge("--json", "--batch-size=2", "--pause=0")
    assert facts == {"deleted": 0, "batches": 0, "audit_deleted": 3, "audit_batches": 2, "complete": True}
    assert AuditEvent.objects.count() == 1


def test_it_stops_when_its_time_is_up() -> None:
    keep(expired=3)
    note(days_ago=8, count=2)
    facts = {"deleted": 1, "batches": 1, "audit_deleted": 0, "audit_batches": 0, "complete": False}
    assert purge("--json", "--batch-size=1", "--max-seconds=0") == facts
    assert "Time is up" in purge("--batch-size=1", "--max-seconds=0")
    assert (Record.objects.count(), AuditEvent.objects.filter(event="released").count()) == (1, 2)
    purge("--batch-size=1", "--max-seconds=0")
    facts = {"deleted": 0, "batches": 0, "audit_deleted": 1, "audit_batches": 1, "complete": False}
    assert purge("--json", "--batch-size=1", "--max-seconds=0") == facts


def test_it_says_what_it_did() -> None:
    keep(expired=2)
    note(days_ago=8)
    done = "{} expired records deleted in {} batches.\n{} audit events deleted in {} batches.\n"
    assert purge() == done.format(2, 1, 1, 1)
    assert purge() == done.format(0, 0, 0, 0)


@override_settings(IDEMPOTENCY_STORES={"default": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}})
def test_a_store_without_a_database_has_no_audit_events() -> None:
    note(days_ago=8)
    keep(expired=1)
    assert purge("--json", "--dry-run")["audit_expired"] == 0
    facts = {"deleted": 1, "batches": 1, "audit_deleted": 0, "audit_batches": 0, "complete": True}
    assert purge("--json") == facts


@pytest.mark.parametrize("argument", ["--batch-size=0", "--pause=-1", "--max-seconds=-1", "--store=elsewhere"])
def test_a_senseless_argument_is_an_error(argument: str) -> None:
    keep(expired=1)
    with pytest.raises(CommandError):
        purge(argument)
    assert Record.objects.count() == 1

"""Audit events can be added, and purged when their time is over; nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from django_idempotency.audit.models import AuditEvent
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions

pytestmark = pytest.mark.django_db(transaction=True)
FACTS: dict[str, Any] = {
    "event": "released",
    "digest": bytes(32),
    "operation": "POST payment-list",
    "scope": "user:1",
    "attempt": 1,
    "actor": "user:ops",
    "reason": "stuck",
}


def append(*, days_ago: float = 0, count: int = 1) -> AuditEvent:
    at = timezone.now() - timedelta(days=days_ago)
    events = [AuditEvent.objects.create(**FACTS, at=at) for _ in range(count)]
    return events[-1]


def test_an_event_gets_the_time_of_the_database() -> None:
    AuditEvent.objects.append(**FACTS)
    assert abs(timezone.now() - AuditEvent.objects.get().at) < timedelta(seconds=30)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("use_tz", [True, False])
def test_retention_does_not_depend_on_the_time_zone(use_tz: bool, zone: str) -> None:
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone, IDEMPOTENCY_AUDIT_TTL=3600):
        AuditEvent.objects.append(**FACTS)
        assert AuditEvent.objects.expired().count() == 0
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone, IDEMPOTENCY_AUDIT_TTL=timedelta(seconds=-1)):
        assert AuditEvent.objects.expired().count() == 1


def test_an_event_cannot_be_saved_again() -> None:
    event = append()
    event.reason = "another"
    for save in (event.save, lambda: event.save(update_fields=["reason"]), AuditEvent.objects.get().save):
        with pytest.raises(TypeError, match="appended, never changed"):
            save()
    assert AuditEvent.objects.get().reason == "stuck"


def test_an_event_does_not_take_the_place_of_another() -> None:
    event = append()
    with pytest.raises(IntegrityError):
        AuditEvent(pk=event.pk, at=timezone.now(), **{**FACTS, "reason": "another"}).save()
    assert AuditEvent.objects.get().reason == "stuck"


def test_querysets_neither_update_nor_delete() -> None:
    event = append()
    event.reason = "another"
    attempts = [
        event.delete,
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(reason="another"),
        lambda: AuditEvent.objects.filter(pk=event.pk).update(reason="another"),
        lambda: AuditEvent.objects.bulk_update([event], ["reason"]),
        lambda: AuditEvent.objects.update_or_create({"reason": "another"}, pk=event.pk),
        lambda: AuditEvent.objects.bulk_create(
            [event], update_conflicts=True, update_fields=["reason"], unique_fields=["id"]
        ),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError, match="appended, never changed"):
            attempt()
    assert AuditEvent.objects.get().reason == "stuck"


def test_several_events_can_be_appended_at_once() -> None:
    AuditEvent.objects.bulk_create([AuditEvent(at=timezone.now(), **FACTS) for _ in range(2)])
    assert AuditEvent.objects.count() == 2


def test_a_purge_deletes_what_is_older_in_batches() -> None:
    append(days_ago=8, count=5)
    young = append(days_ago=6)
    assert list(AuditEvent.objects.purge(batch_size=2)) == [2, 2, 1]
    assert list(AuditEvent.objects.all()) == [young]
    assert list(AuditEvent.objects.purge(before=timezone.now())) == [1]


@override_settings(IDEMPOTENCY_AUDIT_TTL=timedelta(days=30))
def test_the_setting_says_how_long_events_are_kept() -> None:
    append(days_ago=29)
    append(days_ago=31)
    assert list(AuditEvent.objects.purge()) == [1]


def test_a_purge_belongs_to_no_other_transaction() -> None:
    append(days_ago=8)
    with pytest.raises(RuntimeError), transaction.atomic():
        list(AuditEvent.objects.purge())
    assert AuditEvent.objects.count() == 1


@pytest.mark.postgresql
def test_a_purge_waits_for_nobody() -> None:
    held, free, gate = append(days_ago=9), append(days_ago=8), Gate()

    def hold() -> None:
        with transaction.atomic():
            assert AuditEvent.objects.select_for_update().get(pk=held.pk)
            gate()

    with other_sessions() as start:
        holding = start(hold)
        try:
            gate.wait_until_reached()
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '5s'")
                assert list(AuditEvent.objects.purge()) == [1]
                cursor.execute("RESET lock_timeout")
        finally:
            gate.open()
        holding.result(PATIENCE)
    assert not AuditEvent.objects.filter(pk=free.pk).exists()
    assert AuditEvent.objects.filter(pk=held.pk).exists()

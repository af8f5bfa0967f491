"""The purge as a Celery task, in a worker of its own on a real broker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_idempotency.contrib.celery import PURGE, beat_schedule, purge_expired
from django_idempotency.models import AuditEvent, Record
from tests.contrib.celery_workers import Worker
from tests.management.test_purge import done, keep, note, of_interest

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_worker_purges_what_the_command_would(worker: Worker) -> None:
    keep(expired=3, live=1)
    note(days_ago=8, count=2)
    result = worker.app.send_task(PURGE, kwargs={"batch_size": 2, "pause": 0})
    assert of_interest(result.get(timeout=120)) == done((3, 2), (2, 1))
    assert (Record.objects.count(), AuditEvent.objects.filter(event="released").count()) == (1, 0)


def test_it_ends_when_the_next_one_is_due_unless_told_otherwise(settings: Any) -> None:
    settings.IDEMPOTENCY_CLEANUP_INTERVAL = timedelta(0)
    keep(expired=2)
    assert of_interest(purge_expired(batch_size=1)) == done((1, 1), (0, 0), complete=False)
    assert of_interest(purge_expired(batch_size=1, max_seconds=None, pause=0)) == done((1, 1), (0, 0))


def test_the_schedule_follows_the_setting(settings: Any) -> None:
    settings.IDEMPOTENCY_CLEANUP_INTERVAL = 600
    entry = beat_schedule(only=["audit"])[PURGE]
    assert (entry["task"], entry["schedule"], entry["options"]) == (purge_expired.name, 600, {"expires": 600})
    keep(expired=1)
    note(days_ago=8)
    assert set(purge_expired(**entry["kwargs"])["tables"]) == {"audit"}
    assert Record.objects.count() == 1

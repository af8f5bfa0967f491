"""The purge as a Celery task, in a worker of its own on a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Celery

from django_idempotency.contrib.celery import PURGE, beat_schedule, purge_expired
from django_idempotency.models import AuditEvent, Record
from tests.campaigns.harness import ROOT, database_url
from tests.management.test_purge import done, keep, note, of_interest
from tests.redis_servers import started_url

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = "tests.contrib.celery_app:app"


def broker() -> str:
    """Return the URL of a database of its own on the embedded server."""
    return urlsplit(started_url())._replace(path="/7").geturl()


def test_a_worker_purges_what_the_command_would() -> None:
    keep(expired=3, live=1)
    note(days_ago=8, count=2)
    url = broker()
    environment = {**os.environ, "DATABASE_URL": database_url({}), "BROKER_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "celery", "-A", WORKER, "worker", "--pool=solo", "--loglevel=WARNING"]
    app = Celery(broker=url, backend=url, set_as_current=False)
    with subprocess.Popen([*command, "--without-gossip", "--without-mingle"], cwd=ROOT, env=environment) as worker:
        try:
            result = app.send_task(PURGE, kwargs={"batch_size": 2, "pause": 0})
            assert of_interest(result.get(timeout=120)) == done((3, 2), (2, 1))
        finally:
            worker.terminate()
            app.close()
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

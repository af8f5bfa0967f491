"""The purge as a task of Django, in a worker of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import django
import pytest

from django_idempotency.models import AuditEvent, Record
from tests.campaigns.harness import ROOT, database_url
from tests.management.test_purge import done, keep, note, of_interest

pytestmark = pytest.mark.django_db(transaction=True)

IMMEDIATE = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"


def test_it_is_a_task_that_purges_what_the_command_would(settings: Any) -> None:
    if django.VERSION < (6, 0):
        pytest.importorskip("django_tasks")
    from django_idempotency.contrib.django_tasks import purge_expired

    settings.TASKS = {"default": {"BACKEND": f"{IMMEDIATE}.backends.immediate.ImmediateBackend"}}
    keep(expired=3, live=1)
    note(days_ago=8, count=2)
    result = purge_expired.enqueue(batch_size=2, pause=0)
    assert of_interest(result.return_value) == done((3, 2), (2, 1))
    assert (Record.objects.count(), AuditEvent.objects.filter(event="released").count()) == (1, 0)


WORK = """
import json
import django; django.setup()
from django.core.management import call_command
from django_idempotency.contrib.django_tasks import purge_expired
call_command("migrate", database="tasks", verbosity=0)
result = purge_expired.enqueue(batch_size=2, pause=0)
call_command("db_worker", batch=True, startup_delay=False, verbosity=0)
result.refresh()
print(json.dumps(result.return_value))
"""


def test_a_worker_takes_it_from_the_database(tmp_path: Any) -> None:
    pytest.importorskip("django_tasks_db")
    keep(expired=3, live=1)
    note(days_ago=8, count=2)
    environment = {
        **os.environ,
        "DATABASE_URL": database_url({}),
        "TASKS_DATABASE": str(tmp_path / "tasks.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "tests.contrib.settings_tasks",
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run(
        [sys.executable, "-c", WORK], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert of_interest(json.loads(ended.stdout.splitlines()[-1])) == done((3, 2), (2, 1))
    assert (Record.objects.count(), AuditEvent.objects.filter(event="released").count()) == (1, 0)

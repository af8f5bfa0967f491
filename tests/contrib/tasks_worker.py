"""``python -m tests.contrib.tasks_worker``: enqueues tasks of Django, and lets workers take them from the database.

Each worker is a process of its own, forked from this one; what it does is what ``manage.py db_worker`` does.
"""

from __future__ import annotations

import os
from typing import Any

import django
from django.core.management import call_command

from tests.contrib.orders import forked, obey


def enqueue(task: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """Return the id of the result."""
    from tests.contrib import tasks_jobs

    return str(getattr(tasks_jobs, task).enqueue(*args, **kwargs).id)


def enqueue_once(task: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """Return how it went."""
    from django_idempotency.contrib.django_tasks import enqueue_once
    from tests.contrib import tasks_jobs

    return enqueue_once(getattr(tasks_jobs, task), *args, **kwargs).state


def result(task_id: str) -> dict[str, Any]:
    """Return the status and the value, or the error, of a task."""
    from django_tasks_db.models import DBTaskResult

    row = DBTaskResult.objects.get(pk=task_id)
    error = row.exception_class_path
    return {"status": row.status, "value": row.return_value, "error": error, "traceback": row.traceback}


def waiting() -> int:
    """Return how many tasks are ready to be taken."""
    from django_tasks_db.models import DBTaskResult

    return DBTaskResult.objects.ready().count()


def work() -> int:
    """Let a worker do all there is to do; return its exit status, negative where a signal has killed it."""
    options = {"batch": True, "startup_delay": False, "reload": False, "verbosity": 0}
    return int(forked(lambda: call_command("db_worker", **options))["status"])


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.contrib.settings_tasks"
    django.setup()
    call_command("migrate", database="tasks", verbosity=0)
    obey({function.__name__: function for function in (enqueue, enqueue_once, result, waiting, work)})

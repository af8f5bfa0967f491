"""Tasks of Django (``django.tasks``; before Django 6.0, of the package ``django-tasks``): jobs, and the purge."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import django
from asgiref.sync import sync_to_async
from django.utils import timezone

from django_idempotency import jobs, purging
from django_idempotency.conf import settings

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import TaskContext, task
else:
    from django_tasks import TaskContext, task

_SOON = timedelta(minutes=10)


def enqueue_once(task: Any, /, *args: Any, **kwargs: Any) -> jobs.Enqueued:
    """Enqueue a task after commit, unless its job is done, under way or enqueued already; tell which.

    ``task`` is one of any backend, also as ``using()`` returns it. Raises FingerprintMismatch where the key has been
    used with other arguments.
    """
    arguments = (TaskContext(task_result=None), *args) if task.takes_context else args  # type: ignore[arg-type]
    delay = max(task.run_after - timezone.now(), timedelta(0)) if task.run_after else timedelta(0)
    return jobs.enqueue_once(
        task, arguments, kwargs, send=lambda: task.enqueue(*args, **kwargs), deadline=delay + _SOON
    )


aenqueue_once = sync_to_async(enqueue_once)


@task()
def purge_expired(**options: Any) -> dict[str, Any]:
    """Purge as ``idempotency_purge`` does, and return what it prints with ``--json``.

    Takes the arguments of ``purging.purge``; by default it ends when the next one is due.
    """
    return purging.purge(**{"max_seconds": settings.cleanup_interval.total_seconds(), **options}).as_json()

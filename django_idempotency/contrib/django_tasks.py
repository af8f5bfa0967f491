"""The purge as a task of Django (``django.tasks``; before Django 6.0, of the package ``django-tasks``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django

from django_idempotency import purging
from django_idempotency.conf import settings

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


@task()
def purge_expired(**options: Any) -> dict[str, Any]:
    """Purge as ``idempotency_purge`` does, and return what it prints with ``--json``.

    Takes the arguments of ``purging.purge``; by default it ends when the next one is due.
    """
    return purging.purge(**{"max_seconds": settings.cleanup_interval.total_seconds(), **options}).as_json()

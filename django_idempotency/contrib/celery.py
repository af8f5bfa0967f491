"""The purge as a Celery task: ``pip install django-idempotency[celery]``."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from django_idempotency import purging
from django_idempotency.conf import settings

PURGE = "django_idempotency.purge_expired"


@shared_task(name=PURGE)  # type: ignore[untyped-decorator]
def purge_expired(**options: Any) -> dict[str, Any]:
    """Purge as ``idempotency_purge`` does, and return what it prints with ``--json``.

    Takes the arguments of ``purging.purge``; by default it ends when the next one is due.
    """
    return purging.purge(**{"max_seconds": settings.cleanup_interval.total_seconds(), **options}).as_json()


def beat_schedule(**options: Any) -> dict[str, dict[str, Any]]:
    """Return entries for ``app.conf.beat_schedule``: a purge every ``IDEMPOTENCY_CLEANUP_INTERVAL``."""
    interval = settings.cleanup_interval.total_seconds()
    # One that nobody could take in time is dropped: the next one does its work.
    entry = {"task": PURGE, "schedule": interval, "kwargs": options, "options": {"expires": interval}}
    return {PURGE: entry}

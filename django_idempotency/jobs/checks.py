"""System checks of the jobs that have been imported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from django.core import checks

from django_idempotency.conf import settings
from django_idempotency.jobs.definitions import Job, registered
from django_idempotency.stores import get_store
from django_idempotency.stores.database import DatabaseStore

Messages = Iterator[checks.CheckMessage]


def check_jobs(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check every job."""
    return list(check_all(registered()))


def check_all(jobs: Iterable[Job]) -> Messages:
    """Check these, and that no two have one name."""
    places: dict[str, set[str]] = defaultdict(set)
    for job in jobs:
        places[job.name].add(f"{job.function.__module__}.{job.function.__qualname__}")
        yield from _check_store(job)
    for name, functions in places.items():
        if len(functions) > 1:
            yield checks.Error(
                f"Several jobs are called {name!r}: {', '.join(sorted(functions))}.",
                hint="They would share their keys: give each a name of its own.",
                id="idempotency.E110",
            )


def _check_store(job: Job) -> Messages:
    alias = job.options.store
    if alias not in settings.STORES:
        yield checks.Error(f"The job {job.name!r} names a store that does not exist: {alias!r}.", id="idempotency.E111")
    elif not isinstance(get_store(alias), DatabaseStore):
        yield checks.Warning(
            f"The records of the job {job.name!r} are not in a database: its effects do not commit with its outcome.",
            hint="Name a store of the database that the job writes to.",
            id="idempotency.W112",
        )

"""Jobs whose re-runs are harmless: carried out once for each business key, with a ledger of their runs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django_idempotency.jobs.arguments import leave_out
from django_idempotency.jobs.exceptions import JobFailed, RetryLater

if TYPE_CHECKING:
    from django_idempotency.jobs.decorators import run_once
    from django_idempotency.jobs.definitions import Job, Options, job_of
    from django_idempotency.jobs.ledger import called_by
    from django_idempotency.jobs.queueing import Enqueued, enqueue_once
    from django_idempotency.jobs.reruns import Rerun
    from django_idempotency.jobs.runs import Run

_LATER = {
    "Enqueued": "queueing",
    "Job": "definitions",
    "Options": "definitions",
    "Rerun": "reruns",
    "Run": "runs",
    "called_by": "ledger",
    "enqueue_once": "queueing",
    "job_of": "definitions",
    "run_once": "decorators",
}

__all__ = [
    "Enqueued",
    "Job",
    "JobFailed",
    "Options",
    "Rerun",
    "RetryLater",
    "Run",
    "called_by",
    "enqueue_once",
    "job_of",
    "leave_out",
    "run_once",
]


def __getattr__(name: str) -> Any:
    """Import what needs the models when it is asked for: they may not be loaded yet."""
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

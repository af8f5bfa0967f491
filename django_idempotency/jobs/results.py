"""Job results as outcomes: a value, or what was raised, as JSON."""

from __future__ import annotations

import json
from typing import Any

from django_idempotency.core import notes
from django_idempotency.core.layers import JOB_RAISED, JOB_RETURNED
from django_idempotency.core.outcomes import Outcome
from django_idempotency.exceptions import OutcomeNotReplayable
from django_idempotency.jobs.exceptions import JobFailed

_LONGEST_ERROR = 500


def value_outcome(name: str, value: Any) -> Outcome:
    """Return the outcome of a job that has returned a value. Raises TypeError unless that is JSON."""
    try:
        body = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"The job {name!r} must return what JSON can say, to be replayed: {error}") from error
    return Outcome(status=JOB_RETURNED, headers=notes.take(), body=body.encode())


def failure_outcome(error: BaseException) -> Outcome:
    """Return the outcome of a job that has raised this."""
    return Outcome(status=JOB_RAISED, headers=notes.take(), body=json.dumps({"error": error_text(error)}).encode())


def error_text(error: BaseException) -> str:
    """Return type and message of an error, shortened."""
    return f"{type(error).__name__}: {error}".rstrip(": ").replace("\x00", "")[:_LONGEST_ERROR]


def read_value(outcome: Outcome) -> Any:
    """Return the value of an outcome. Raises JobFailed, OutcomeNotReplayable."""
    if outcome.body is None:
        raise OutcomeNotReplayable
    try:
        content = json.loads(outcome.body or b"null")
    except ValueError as error:  # what an operator has said came of it
        raise OutcomeNotReplayable("The kept value of the job is not JSON.") from error
    if outcome.status == JOB_RAISED:
        raise JobFailed(error=content["error"])
    return content

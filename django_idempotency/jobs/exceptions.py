"""Errors of jobs."""

from __future__ import annotations

from datetime import timedelta

from django_idempotency.exceptions import IdempotencyError, OperationInProgress


class JobFailed(IdempotencyError):
    """The job has failed before, and stays so until it is reset.

    ``error`` is what it has raised then: the name of the type and the message.
    """

    def __init__(self, message: str = "", *, error: str = "") -> None:
        super().__init__(message or f"The job has failed before, and stays so until it is reset: {error}")
        self.error = error


class RetryLater(OperationInProgress):
    """The job is being carried out by somebody else; its outcome can be had later.

    ``after`` is when to come back.
    """

    def __init__(self, message: str = "", *, after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(message)
        self.after = after

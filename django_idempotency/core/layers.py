"""Layers: which room an operation belongs to, told by its scope."""

from __future__ import annotations

#: What the scopes of jobs begin with; no view may have such a scope.
JOB_SCOPE = "job:"
#: The status of the outcome of a job, as that of a process: it has returned, or it has raised.
JOB_RETURNED, JOB_RAISED = 0, 1


def layer_of(scope: str) -> str:
    """Return the layer of an operation with this scope: ``jobs`` or ``http``."""
    return "jobs" if scope.startswith(JOB_SCOPE) else "http"

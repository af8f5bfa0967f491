"""One exchange: a request with a key is executed, replayed or refused."""

from __future__ import annotations

from functools import lru_cache

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from django_idempotency.conf import settings
from django_idempotency.core.execution import Attempt, Execution, Raised, Run, WaitingRoom, execute
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Claim, Operation
from django_idempotency.exceptions import IdempotencyError, OutcomeNotReplayable
from django_idempotency.http.operations import wait_of
from django_idempotency.http.problems import problem_of, problem_response
from django_idempotency.http.responses import replay, tell_expiry
from django_idempotency.stores import get_store

_waiting_room = lru_cache(maxsize=None)(WaitingRoom)


def perform(
    request: HttpRequest,
    operation: Operation,
    policy: Policy,
    run: Run[HttpResponseBase],
) -> Execution[HttpResponseBase]:
    """Execute the operation of a request, or find its outcome. Raises IdempotencyError and whatever ``run`` raises."""

    def run_once(claim: Claim) -> Attempt[HttpResponseBase] | Raised[HttpResponseBase]:
        request.idempotency = claim  # type: ignore[attr-defined]
        try:
            return run(claim)
        finally:
            request.idempotency = None  # type: ignore[attr-defined]

    wait = wait_of(request, policy)
    return execute(
        get_store(policy.store),
        operation,
        run_once,
        ttl=policy.ttl or settings.ttl,
        wait=wait,
        waiting_room=_waiting_room(settings.MAX_WAITERS) if wait else None,
        conflict_retries=policy.conflict_retries,
    )


def is_running(request: HttpRequest) -> bool:
    """Tell whether an operation of this request is being executed, so that nested enrolment claims once."""
    return getattr(request, "idempotency", None) is not None


def answer(execution: Execution[HttpResponseBase], policy: Policy) -> HttpResponseBase:
    """Return the response of an execution."""
    response = execution.answer
    if execution.replayed is not None:
        response = replay(execution.replayed)
        if policy.body == "none":
            response["Idempotency-Status"] = "body-withheld"
    assert response is not None
    tell_expiry(response, execution.expires_at)
    return response


def refuse(request: HttpRequest, error: IdempotencyError, policy: Policy) -> HttpResponse:
    """Return the problem response of an error, with the kept headers of an outcome that cannot be replayed."""
    problem = problem_of(error)
    own_words = str(error) if str(error) != str(type(error)()) else ""
    retention = int((policy.ttl or settings.ttl).total_seconds())
    response = problem_response(request, problem, detail=own_words, retry_after=min(policy.retry_after, retention))
    if isinstance(error, OutcomeNotReplayable):
        for name, value in error.headers:
            if name.lower() in ("location", "etag", "content-location"):
                response[name] = value
    return response

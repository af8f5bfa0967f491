"""One exchange: a request with a key is executed, replayed or refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from django_idempotency.conf import settings
from django_idempotency.core.attempts import Attempt, Execution, Raised, Run, Witness
from django_idempotency.core.execution import WaitingRoom, execute
from django_idempotency.core.leases import Lease, LeaseTerms, Verdict
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Claim, Operation
from django_idempotency.exceptions import (
    IdempotencyError,
    InvalidKey,
    MissingKey,
    OutcomeNotReplayable,
    StoreUnavailable,
)
from django_idempotency.http.announcements import Announcer, announce_rejected
from django_idempotency.http.operations import wait_of
from django_idempotency.http.problems import UNENROLLED, problem_of, problem_response
from django_idempotency.http.protection import opened, prepare, sealed, sealed_verdict
from django_idempotency.http.responses import WITHHELD, capture, replay, tell_expiry
from django_idempotency.stores import get_store

logger = logging.getLogger("django_idempotency")

_waiting_room = lru_cache(maxsize=None)(WaitingRoom)


def perform(
    request: HttpRequest,
    operation: Operation,
    policy: Policy,
    run: Run[HttpResponseBase],
    *,
    check: Callable[[], None] = lambda: None,
) -> Execution[HttpResponseBase]:
    """Execute the operation of a request, or find its outcome.

    ``check`` refuses a replay by raising. Raises IdempotencyError, PermissionDenied where the policy forbids a replay,
    and whatever ``run`` and ``check`` raise.
    """

    def check_both() -> None:
        check_replay(request, policy)
        check()

    announcer = Announcer(operation, policy, check_both)

    def run_once(claim: Claim) -> Attempt[HttpResponseBase] | Raised[HttpResponseBase]:
        prepare(claim, policy)
        announcer.claim = request.idempotency = claim  # type: ignore[attr-defined]
        try:
            return sealed(run(claim), operation, policy)
        finally:
            request.idempotency = None  # type: ignore[attr-defined]

    try:
        execution = _execute(request, operation, policy, run_once, announcer)
    except BaseException as error:
        announcer.refused(error)
        raise
    if execution.replayed is not None:
        return opened(execution, operation)
    announcer.answered(execution)
    return execution


def _execute(
    request: HttpRequest, operation: Operation, policy: Policy, run: Run[HttpResponseBase], witness: Witness
) -> Execution[HttpResponseBase]:
    wait = wait_of(request, policy)
    return execute(
        get_store(policy.store),
        operation,
        run,
        ttl=policy.ttl or settings.ttl,
        wait=wait,
        waiting_room=waiting_room() if wait else None,
        conflict_retries=policy.conflict_retries,
        lease=lease_terms(policy) if policy.claim == "lease" else None,
        witness=witness,
    )


def check_replay(request: HttpRequest, policy: Policy) -> None:
    """Ask the policy whether this request may see the outcome of an earlier one. Raises PermissionDenied."""
    if policy.may_replay and not policy.may_replay(request):
        raise PermissionDenied


def lease_terms(policy: Policy) -> LeaseTerms:
    """Return the terms under which a policy claims by lease."""
    return LeaseTerms(
        lease=policy.lease,
        heartbeat=policy.heartbeat,
        heartbeat_limit=policy.heartbeat_limit,
        on_crash=policy.on_crash,
        reconcile=_reconciler(policy) if policy.reconcile else None,
    )


def _reconciler(policy: Policy) -> Any:
    def reconcile(lease: Lease) -> Verdict:
        prepare(lease, policy)
        verdict = policy.reconcile(lease) if policy.reconcile else None
        outcome = capture(verdict, policy) if isinstance(verdict, HttpResponseBase) else verdict
        return sealed_verdict(outcome, lease, policy)

    return reconcile


def attempt(response: HttpResponseBase, policy: Policy, *, kept: bool) -> Attempt[HttpResponseBase]:
    """Return how a run ended that came to this response, rendered."""
    outcome = capture(response, policy) if kept else None
    return Attempt(answer=response, outcome=outcome, is_failure=response.status_code >= 500)


def waiting_room() -> WaitingRoom:
    """Return the waiting room of this process."""
    return _waiting_room(settings.MAX_WAITERS)


def is_running(request: HttpRequest) -> bool:
    """Tell whether an operation of this request is being executed, so that nested enrolment claims once."""
    return getattr(request, "idempotency", None) is not None


def runs_unprotected(error: IdempotencyError, policy: Policy, operation: Operation) -> bool:
    """Tell whether an operation that has not run is to do so without its store; that is logged as an error.

    Only where the store cannot be reached: one that answers may know that the operation is done.
    """
    if policy.on_outage != "run" or type(error) is not StoreUnavailable or get_store(policy.store).alias is not None:
        return False
    name = operation.key.operation
    logger.error("Operation %s (%s) runs unprotected: its store cannot be reached.", operation.key.prefix, name)
    return True


def answer(execution: Execution[HttpResponseBase], policy: Policy) -> HttpResponseBase:
    """Return the response of an execution."""
    response = execution.answer
    if execution.replayed is not None:
        response = replay(execution.replayed)
        if policy.body in WITHHELD:
            response["Idempotency-Status"] = "body-withheld"
    assert response is not None
    tell_expiry(response, execution.expires_at)
    return response


def refuse_unenrolled(request: HttpRequest) -> HttpResponse | None:
    """Return the problem of a key that nothing uses, where it must not be ignored (501)."""
    if settings.UNENROLLED == "refuse" and request.method not in ("GET", "HEAD", "OPTIONS"):
        return problem_response(request, UNENROLLED)
    return None


def refuse(request: HttpRequest, error: IdempotencyError, policy: Policy) -> HttpResponse:
    """Return the problem response of an error, with the kept headers of an outcome that cannot be replayed.

    Raises an error again that is not of the protocol: it is the view's own.
    """
    if isinstance(error, MissingKey | InvalidKey):
        announce_rejected(request, policy, error)
    problem = problem_of(error)
    if problem is None:
        raise error
    own_words = str(error) if str(error) != error.usual_message() else ""
    retention = int((policy.ttl or settings.ttl).total_seconds())
    response = problem_response(request, problem, detail=own_words, retry_after=min(policy.retry_after, retention))
    if isinstance(error, OutcomeNotReplayable):
        for name, value in error.headers:
            if name.lower() in ("location", "etag", "content-location"):
                response[name] = value
    return response

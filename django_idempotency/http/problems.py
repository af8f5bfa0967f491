"""Problem details (RFC 9457): the one place that knows the HTTP status of an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse

from django_idempotency import exceptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One cause of refusal: its stable code, HTTP status, title, and whether the same request may be sent again."""

    code: str
    status: int
    title: str
    retryable: bool
    advice: str


PROBLEMS: dict[type[exceptions.IdempotencyError], Problem] = {
    exceptions.MissingKey: Problem(
        code="missing-key",
        status=400,
        title="Idempotency-Key is missing",
        retryable=False,
        advice="Send the request with an idempotency key of your own making, and repeat that key on every retry.",
    ),
    exceptions.InvalidKey: Problem(
        code="malformed-key",
        status=400,
        title="Idempotency-Key is malformed",
        retryable=False,
        advice="Send one key, as a quoted string, in the format that the operation asks for.",
    ),
    exceptions.FingerprintMismatch: Problem(
        code="key-reused",
        status=422,
        title="Idempotency-Key is already used",
        retryable=False,
        advice="Use a new key for a new request; repeat a key only with the very same request.",
    ),
    exceptions.OperationInProgress: Problem(
        code="in-progress",
        status=409,
        title="A request is outstanding for this Idempotency-Key",
        retryable=True,
        advice="Wait as long as Retry-After says, then send the same request again to get its outcome.",
    ),
    exceptions.OutcomeNotReplayable: Problem(
        code="response-not-replayable",
        status=409,
        title="The response to this Idempotency-Key was not kept",
        retryable=False,
        advice="The operation is done and will not be done again; read its result from the resource.",
    ),
    exceptions.OutcomeUnreadable: Problem(
        code="outcome-unreadable",
        status=503,
        title="The response to this Idempotency-Key cannot be read",
        retryable=True,
        advice="What was kept of the operation cannot be decrypted now, so it is not done again. Try again later.",
    ),
    exceptions.OutcomeUnknown: Problem(
        code="outcome-unknown",
        status=409,
        title="The outcome of the request with this Idempotency-Key is unknown",
        retryable=False,
        advice="An earlier attempt broke off. It will not be repeated until somebody has found out what it did.",
    ),
    exceptions.LeaseLost: Problem(
        code="lease-lost",
        status=409,
        title="The request took too long and was taken over",
        retryable=True,
        advice="Nothing of this attempt was kept. Send the same request again to get the outcome of the one after it.",
    ),
    exceptions.Duplicate: Problem(
        code="duplicate",
        status=409,
        title="The same was accepted before",
        retryable=False,
        advice="It needs no key to be recognised: its fields are those of something that was accepted not long ago.",
    ),
    exceptions.StoreUnavailable: Problem(
        code="store-unavailable",
        status=503,
        title="The request cannot be processed safely at the moment",
        retryable=True,
        advice="Nothing was carried out. Send the same request with the same key again, later.",
    ),
}
UNENROLLED = Problem(
    code="not-supported",
    status=501,
    title="Idempotency-Key is not supported here",
    retryable=False,
    advice="Send the request without a key; it would not be protected by one.",
)


def problem_of(error: BaseException) -> Problem | None:
    """Return the problem of an error by its nearest class, None where a view has failed with an error of its own."""
    return next((problem for kind, problem in PROBLEMS.items() if isinstance(error, kind)), None)


def every_problem() -> Iterator[Problem]:
    """Yield all problems, for documentation."""
    yield from PROBLEMS.values()
    yield UNENROLLED


def problem_response(request: HttpRequest, problem: Problem, *, detail: str = "", retry_after: int = 1) -> HttpResponse:
    """Make the response: ``application/problem+json``, which names neither the key nor anything stored."""
    url = _documentation(problem)
    link = request.build_absolute_uri(url) if url else None
    body = {
        "type": link or f"urn:idempotency:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail or problem.advice,
        "instance": request.path,
        "code": problem.code,
        "retryable": problem.retryable,
    }
    response = HttpResponse(json.dumps(body), status=problem.status, content_type="application/problem+json")
    response["Content-Language"] = "en"
    response["Cache-Control"] = "no-store"
    response["Idempotency-Should-Retry"] = "true" if problem.retryable else "false"
    if problem.retryable:
        response["Retry-After"] = str(retry_after)
    if link:
        response["Link"] = f'<{link}>; rel="describedby"; type="text/html"'
    return response


def _documentation(problem: Problem) -> str | None:
    try:
        return reverse("idempotency:problem", args=[problem.code])
    except NoReverseMatch:
        return None

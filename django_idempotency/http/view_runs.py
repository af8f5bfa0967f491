"""One run of a plain view: called, rendered and captured, with the refusals that Django makes responses of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.handlers.exception import response_for_exception
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase

from django_idempotency.core.attempts import Attempt, Raised
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Claim
from django_idempotency.http import exchange
from django_idempotency.http.transactions import atomic_requests
from django_idempotency.stores import get_store

# What Django answers with a 4xx: the view has refused, it has not failed.
REFUSALS = (Http404, PermissionDenied, BadRequest, SuspiciousOperation, MultiPartParserError)


class _Run:
    """What the runs of synchronous and asynchronous views have in common."""

    def __init__(self, call: Callable[[], Any], policy: Policy, request: HttpRequest) -> None:
        self._call = call
        self._policy = policy
        self._request = request
        self._refusal: Exception | None = None
        self.has_run = False

    def raise_refusal(self) -> None:
        """Raise the refusal that was not kept, so that Django answers it as without us."""
        if self._refusal:
            raise self._refusal

    def _refuse(self, error: Exception) -> Attempt[HttpResponseBase]:
        """Keep the answer to a refusal where the policy says so."""
        if self._policy.keep == "raised":
            response = self._response_to(error)
            if self._policy.keeps(response.status_code, raised=True):
                return exchange.attempt(response, self._policy, kept=True)
        self._refusal = error
        return Attempt(answer=HttpResponse(status=400))  # the refusal is raised in its place

    def _response_to(self, refusal: Exception) -> HttpResponseBase:
        try:
            raise refusal  # Django's debug page looks at the exception being handled
        except REFUSALS as error:
            response: HttpResponseBase = response_for_exception(self._request, error)
            return response

    def _attempt(self, response: HttpResponseBase, *, is_undone: bool = False) -> Attempt[HttpResponseBase]:
        kept = self._policy.keeps(response.status_code, raised=is_undone)
        if is_undone:
            kept = kept and response.status_code >= 400  # a success without its effects is none
        return exchange.attempt(response, self._policy, kept=kept)


class ViewRun(_Run):
    """The run of a synchronous view in the transaction of the engine."""

    def __init__(self, call: Callable[[], Any], policy: Policy, request: HttpRequest) -> None:
        super().__init__(call, policy, request)
        self._owned = get_store(policy.store).alias

    def __call__(self, claim: Claim) -> Attempt[HttpResponseBase] | Raised[HttpResponseBase]:
        """Run the view; its answer is rendered before the commit."""
        if self.has_run:
            _rewind_uploads(self._request)
        self.has_run = True
        with atomic_requests(self._request, owned=self._owned) as roll_back_others:
            ended = self._run()
            if not isinstance(ended, Attempt) or not ended.outcome:
                roll_back_others()
            return ended

    def _run(self) -> Attempt[HttpResponseBase] | Raised[HttpResponseBase]:
        try:
            response = _checked(self._call())
        except REFUSALS as error:
            refusal = error
            return Raised(lambda: self._refuse(refusal))
        if self._is_undone(response):
            return Raised(lambda: self._attempt(_rendered(response), is_undone=True))
        return self._attempt(_rendered(response))

    def _is_undone(self, response: HttpResponseBase) -> bool:
        """Tell whether the effects are to be rolled back: by ``set_rollback()``, or for an error that DRF handled."""
        if getattr(response, "exception", False):
            return True
        if self._owned is None:
            return False
        connection = connections[self._owned]
        return connection.in_atomic_block and connection.needs_rollback


class AsyncViewRun(_Run):
    """The run of an asynchronous view, whose effects are committed step by step."""

    async def __call__(self, claim: Claim) -> Attempt[HttpResponseBase]:
        """Run the view and render its answer."""
        self.has_run = True
        try:
            response = await _arendered(_checked(await self._call()))
        except REFUSALS as error:
            return await sync_to_async(self._refuse)(error)
        return self._attempt(response)


def _checked(response: Any) -> HttpResponseBase:
    if not isinstance(response, HttpResponseBase):
        raise ValueError(f"The view didn't return an HttpResponse object. It returned {response!r} instead.")
    return response


def _rendered(response: Any) -> HttpResponseBase:
    rendered: HttpResponseBase = response.render() if callable(getattr(response, "render", None)) else response
    return rendered


async def _arendered(response: Any) -> HttpResponseBase:
    render = getattr(response, "render", None)
    if not callable(render):
        return response  # type: ignore[no-any-return]
    rendered: HttpResponseBase = await (render() if iscoroutinefunction(render) else sync_to_async(render)())
    return rendered


def _rewind_uploads(request: Any) -> None:
    if hasattr(request, "_files"):
        for _, files in request.FILES.lists():
            for file in files:
                file.seek(0)

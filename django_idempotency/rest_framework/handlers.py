"""A view's handler, run inside the transaction of the engine or, without a key, as ATOMIC_REQUESTS asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from django_idempotency.core.attempts import Attempt, Execution, Raised
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Claim, Operation
from django_idempotency.http import exchange
from django_idempotency.http.transactions import atomic_requests
from django_idempotency.stores import get_store

if TYPE_CHECKING:
    from django_idempotency.rest_framework.mixins import IdempotencyMixin

Handler = Callable[..., HttpResponseBase]


class HandlerRun:
    """The run of a handler: handled, rendered and captured before the commit."""

    def __init__(self, view: IdempotencyMixin, handler: Handler, policy: Policy, request: Request) -> None:
        self._view = view
        self._handler = handler
        self._policy = policy
        self._request = request
        self._unhandled: Exception | None = None
        self.has_run = False
        self._owned = get_store(policy.store).alias

    def perform(self, operation: Operation) -> Execution[HttpResponseBase]:
        """Execute the operation or find its outcome. Raises IdempotencyError and what DRF does not handle."""
        try:
            return exchange.perform(
                self._request._request,
                operation,
                self._policy,
                self._run,
                check=partial(self._view.check_replay_permissions, self._request),
            )
        except Exception as error:
            if error is self._unhandled:
                pass_errors_on(self._view)
            raise

    def _run(self, claim: Claim) -> Attempt[HttpResponseBase] | Raised[HttpResponseBase]:
        if self.has_run:
            self._rewind_uploads()
        self.has_run = self._view.owns_transaction = True
        try:
            with atomic_requests(self._request._request, owned=self._owned) as roll_back_others:
                attempt = self._attempt()
                if not isinstance(attempt, Attempt) or not attempt.outcome:
                    roll_back_others()
                return attempt
        finally:
            self._view.owns_transaction = False

    def _rewind_uploads(self) -> None:
        for _, files in self._request.FILES.lists():
            for file in files:
                file.seek(0)

    def _attempt(self) -> Attempt[HttpResponseBase] | Raised[HttpResponseBase]:
        try:
            if not self._policy.throttle_replays:
                self._view.check_throttles(self._request)
            response = self._handler()
        except Exception as error:  # noqa: BLE001 - DRF judges it
            response = self._handle(error)
            return Raised(lambda: self._finish(response, raised=True))
        return self._finish(response, raised=False)

    def _handle(self, error: Exception) -> HttpResponseBase:
        try:
            return self._view.handle_exception(error)
        except Exception as unhandled:
            self._unhandled = unhandled
            raise

    def _finish(self, response: HttpResponseBase, *, raised: bool) -> Attempt[HttpResponseBase]:
        """Render as DRF would, only sooner, and keep what the policy keeps."""
        request = self._request
        view = self._view
        headers = dict(view.headers)
        response = view.finalize_response(request, response, *view.args, **view.kwargs)  # type: ignore[arg-type]
        view.headers = headers  # DRF takes Vary out of them, which a rival's outcome or another try needs too
        if callable(render := getattr(response, "render", None)):
            response = render()
        kept = self._policy.keeps(response.status_code, raised=raised)
        return exchange.attempt(response, self._policy, kept=kept)


def run_unprotected(view: IdempotencyMixin, handler: Handler, request: Request, status: str = "") -> HttpResponseBase:
    """Run a handler without a key, as ATOMIC_REQUESTS asks for; ``status`` tells the client why."""
    view.owns_transaction = True
    try:
        with atomic_requests(request._request):
            try:
                response = handler()
            except Exception as error:  # noqa: BLE001 - DRF judges it
                response = _handled(view, error)
    finally:
        view.owns_transaction = False
    if status:
        response["Idempotency-Status"] = status
    return response


def _handled(view: IdempotencyMixin, error: Exception) -> HttpResponseBase:
    try:
        return view.handle_exception(error)
    except Exception:
        pass_errors_on(view)
        raise


def pass_responses_on(view: IdempotencyMixin) -> None:
    """Let the rest of DRF's dispatch leave a response alone that is finalized and rendered already."""
    view.finalize_response = lambda request, response, *args, **kwargs: response  # type: ignore[method-assign]


def pass_errors_on(view: IdempotencyMixin) -> None:
    """Let the rest of DRF's dispatch leave an error alone that its handler has seen already."""
    view.handle_exception = _raise  # type: ignore[method-assign]


def _raise(exc: Exception) -> NoReturn:
    raise exc

"""The middleware, for views that are enrolled from outside: by a setting, or by an attribute of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse

from django_idempotency.core.policies import Policy
from django_idempotency.http.enrolment import policy_of
from django_idempotency.http.exchange import is_running, refuse_unenrolled
from django_idempotency.http.operations import has_key
from django_idempotency.http.plain import View, arespond, is_async, is_enrolled, respond, tell_status


class IdempotencyMiddleware:
    """Runs enrolled views through the exchange, and tells a client whose key nobody uses.

    It does so when the checks of all middleware before it are done, CSRF for one; those after it do not see the view.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)
            self.process_view = self._aprocess_view  # type: ignore[method-assign]

    def __call__(self, request: HttpRequest) -> Any:
        """Pass the request on."""
        if iscoroutinefunction(self):
            return self._acall(request)
        return _tell_if_ignored(request, self._get_response(request))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        return _tell_if_ignored(request, await self._get_response(request))

    def process_view(self, request: HttpRequest, view: View, args: Any, kwargs: Any) -> Any:
        """Answer in the place of an enrolled view."""
        policy = _policy(request, view)
        if policy is None:
            return _ignore(request, view)
        answer: Any = async_to_sync(arespond) if is_async(view) else respond
        try:
            return answer(view, policy, request, args, kwargs)
        except Exception as error:  # noqa: BLE001 - Django judges it
            return Failed(error)

    async def _aprocess_view(self, request: HttpRequest, view: View, args: Any, kwargs: Any) -> Any:
        policy = _policy(request, view)
        if policy is None:
            return _ignore(request, view)
        answer: Any = arespond if is_async(view) else sync_to_async(respond)
        try:
            return await answer(view, policy, request, args, kwargs)
        except Exception as error:  # noqa: BLE001 - Django judges it
            return Failed(error)


class Failed(SimpleTemplateResponse):
    """Carries an error of the view to where Django shows errors of views to ``process_exception()`` hooks.

    What ``process_view()`` itself raises they do not get to see; what rendering raises they do.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__("", {})
        self._error = error

    def render(self) -> NoReturn:
        """Raise the error."""
        raise self._error


def _policy(request: HttpRequest, view: View) -> Policy | None:
    return policy_of(view, request.resolver_match.view_name) if request.resolver_match else None


def _ignore(request: HttpRequest, view: View) -> HttpResponseBase | None:
    """Note that nobody uses the key of a request, or refuse it."""
    if is_enrolled(view) or not has_key(request) or is_running(request):
        return None
    refusal = refuse_unenrolled(request)
    request._ignores_idempotency_key = refusal is None  # type: ignore[attr-defined]
    return refusal


def _tell_if_ignored(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    return tell_status(response, "ignored" if getattr(request, "_ignores_idempotency_key", False) else "")

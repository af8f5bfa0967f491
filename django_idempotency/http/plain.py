"""Plain Django views in the exchange: what the decorator, the middleware and the form mixin share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import IdempotencyError, MissingKey, MissingScope
from django_idempotency.http import exchange
from django_idempotency.http.async_exchange import aperform
from django_idempotency.http.operations import build_operation, carries_key, has_key, read_key, user_scope
from django_idempotency.http.transactions import EveryAlias, atomic_requests
from django_idempotency.http.view_runs import AsyncViewRun, ViewRun

View = Callable[..., Any]


def is_async(view: View) -> bool:
    """Tell whether a view returns a coroutine, as the ``dispatch()`` of an asynchronous class does unmarked."""
    instance = getattr(getattr(view, "func", view), "__self__", None)
    return iscoroutinefunction(view) or bool(getattr(instance, "view_is_async", False))


def is_enrolled(view: View) -> bool:
    """Tell whether a view has the decorator or a mixin, and so a claim of its own."""
    return isinstance(getattr(view, "_non_atomic_requests", None), EveryAlias)


def authenticates_itself(view: View) -> bool:
    """Tell whether nobody knows the user before the view runs, as with the views of Django REST framework."""
    return hasattr(getattr(view, "cls", None), "perform_authentication")


def respond(
    view: View, policy: Policy, request: HttpRequest, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> HttpResponseBase:
    """Answer a request through the exchange. Raises PermissionDenied for nobody, and what the view raises."""
    call = partial(view, request, *args, **kwargs)
    if exchange.is_running(request):
        return call()  # type: ignore[no-any-return]
    found = _find(request, policy, kwargs, lambda: getattr(request, "user", None))
    if isinstance(found, Operation):
        return _perform(call, policy, request, found)
    if isinstance(found, str):
        return _call(call, request, found)
    return found


async def arespond(
    view: View, policy: Policy, request: HttpRequest, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> HttpResponseBase:
    """Do as ``respond`` does for an asynchronous view, whose claim is always a lease."""
    call = partial(view, request, *args, **kwargs)
    if exchange.is_running(request):
        return await call()  # type: ignore[no-any-return]
    if request.method in policy.methods:
        user = await _auser(request, policy)
        found = await sync_to_async(_find)(request, policy, kwargs, lambda: user)
    else:
        found = _find_unenrolled(request)
    if isinstance(found, Operation):
        return await _aperform(call, policy, request, found)
    if isinstance(found, str):
        return tell_status(await call(), found)
    return found


def tell_status(response: HttpResponseBase, status: str) -> HttpResponseBase:
    """Tell a client why its request is not protected; what is no response is for Django to complain of."""
    if status and isinstance(response, HttpResponseBase):
        response["Idempotency-Status"] = status
    return response


def _find(
    request: HttpRequest, policy: Policy, kwargs: Mapping[str, Any], user: Callable[[], Any]
) -> Operation | str | HttpResponseBase:
    """Return what the request asks for, the answer that refuses it, or the status of one that runs without a key."""
    if request.method not in policy.methods:
        return _find_unenrolled(request)
    try:
        return _find_operation(request, policy, kwargs, user) or "unprotected"
    except MissingScope as error:
        raise PermissionDenied(str(error)) from error
    except IdempotencyError as error:
        return exchange.refuse(request, error, policy)


def _find_unenrolled(request: HttpRequest) -> str | HttpResponseBase:
    return (exchange.refuse_unenrolled(request) or "ignored") if has_key(request) else ""


def _find_operation(
    request: HttpRequest, policy: Policy, kwargs: Mapping[str, Any], user: Callable[[], Any]
) -> Operation | None:
    """Return the operation, None without a key; no frame of a running view holds the key itself."""
    if not _concerns_somebody(request, policy):
        return None
    scope = policy.scope(request) if policy.scope else user_scope(user())
    key = read_key(request, policy)
    if key is None:
        raise MissingKey
    return build_operation(request, policy, key=key, scope=scope, form=request, route_arguments=kwargs)


def _concerns_somebody(request: HttpRequest, policy: Policy) -> bool:
    return policy.required or carries_key(request, policy)


async def _auser(request: HttpRequest, policy: Policy) -> Any:
    """Return the user as the view itself will ask for it, where it is asked for at all."""
    if policy.scope or not _concerns_somebody(request, policy):
        return None
    auser = getattr(request, "auser", None)
    return await auser() if auser else getattr(request, "user", None)


def _perform(call: View, policy: Policy, request: HttpRequest, operation: Operation) -> HttpResponseBase:
    run = ViewRun(call, policy, request)
    try:
        execution = exchange.perform(request, operation, policy, run)
    except IdempotencyError as error:
        if not run.has_run and exchange.runs_unprotected(error, policy, operation):
            return _call(call, request, "unprotected")
        return exchange.refuse(request, error, policy)
    run.raise_refusal()
    return exchange.answer(execution, policy)


async def _aperform(call: View, policy: Policy, request: HttpRequest, operation: Operation) -> HttpResponseBase:
    run = AsyncViewRun(call, policy, request)
    try:
        execution = await aperform(request, operation, policy, run)
    except IdempotencyError as error:
        if not run.has_run and exchange.runs_unprotected(error, policy, operation):
            return tell_status(await call(), "unprotected")
        return exchange.refuse(request, error, policy)
    run.raise_refusal()
    return exchange.answer(execution, policy)


def _call(call: View, request: HttpRequest, status: str) -> HttpResponseBase:
    """Run a view without us, as ATOMIC_REQUESTS asks for; ``status`` tells the client why."""
    with atomic_requests(request):
        response = call()
    return tell_status(response, status)

"""The decorator of plain Django views."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_idempotency.core.policies import Policy
from django_idempotency.http.plain import View, arespond, authenticates_itself, is_async, respond
from django_idempotency.http.transactions import own_transactions

V = TypeVar("V", bound=Callable[..., Any])


def idempotent(policy: Policy | None = None, /, **options: Any) -> Callable[[V], V]:
    """Enrol a plain Django view, synchronous or asynchronous. Takes a Policy or its fields.

    Stands below the decorators that check who asks, so that they are asked before a replay too.
    """
    if policy is not None and not isinstance(policy, Policy):
        raise TypeError("@idempotent needs parentheses: @idempotent() or @idempotent(Policy(…)).")
    chosen = policy or Policy(**options)

    def decorate(view: V) -> V:
        _refuse_strangers(view, chosen)
        return enrol(view, chosen)

    return decorate


def enrol(view: V, policy: Policy) -> V:
    """Return the view with the exchange around it."""
    wrapped: Any = _async(view, policy) if is_async(view) else _sync(view, policy)
    own_transactions(wrapped)
    wrapped.idempotency = policy
    return wrapped  # type: ignore[no-any-return]


def _sync(view: View, policy: Policy) -> View:
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return respond(view, policy, request, args, kwargs)

    return wrapped


def _async(view: View, policy: Policy) -> View:
    @wraps(view)
    async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return await arespond(view, policy, request, args, kwargs)

    return wrapped


def _refuse_strangers(view: View, policy: Policy) -> None:
    if isinstance(view, type):
        raise TypeError('A class is enrolled by @method_decorator(idempotent(…), name="dispatch").')
    if authenticates_itself(view) and policy.scope is None:
        raise TypeError("Views of Django REST framework take @idempotent from django_idempotency.rest_framework.")

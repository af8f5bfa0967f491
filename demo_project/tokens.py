"""Token authentication for views that are not of Django REST framework."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated

View = Callable[..., Any]


def token_required(view: View) -> View:
    """Let in who sends ``Authorization: Token …``, as ``request.user``; answer 401 to all others."""
    return _aguarded(view) if iscoroutinefunction(view) else _guarded(view)


def _guarded(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return _refuse(request) or view(request, *args, **kwargs)

    return guarded


def _aguarded(view: View) -> View:
    @wraps(view)
    async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return await sync_to_async(_refuse)(request) or await view(request, *args, **kwargs)

    return guarded


def _refuse(request: HttpRequest) -> HttpResponse | None:
    try:
        found = TokenAuthentication().authenticate(request)  # type: ignore[arg-type]
        if found is None:
            raise NotAuthenticated
    except (AuthenticationFailed, NotAuthenticated) as error:
        return JsonResponse({"detail": error.detail}, status=401, headers={"WWW-Authenticate": "Token"})
    user = found[0]

    async def auser() -> Any:
        return user

    request.user, request.auser = user, auser
    return None

"""Callers of plain views: with a session rather than a token, through WSGI or ASGI."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from tests.callers import Caller, new_key
from tests.records import rows

MIDDLEWARE = "django_idempotency.http.middleware.IdempotencyMiddleware"


class AsgiClient:
    """A test client whose requests pass Django's asynchronous handler."""

    def __init__(self) -> None:
        self._client = AsyncClient(raise_request_exception=False)
        self.force_login = self._client.force_login

    @async_to_sync
    async def generic(self, *args: Any, **options: Any) -> Any:
        return await self._client.generic(*args, **options)


def log_in(caller: Caller, client: Any = None) -> Caller:
    """Give a caller a session, in a client of this kind."""
    caller.client = client or Client(raise_request_exception=False)
    caller.client.force_login(caller.user)
    return caller


def assert_runs_once(caller: Caller, path: str, *, method: str = "POST", status: int = 201) -> Any:
    """Send a request twice; the second answer repeats the first."""
    key = new_key()
    first, again = (caller.send(method, path, key=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (status, status), first.content
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert again.headers.get("Location") == first.headers.get("Location")
    assert (first.get("Idempotent-Replayed"), rows()) == (None, (1, 1))
    return first

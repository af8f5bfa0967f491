"""Named steps of a request at which the process that serves it kills itself, for the asking: ``X-Kill: after write``.

The product knows nothing of this: the steps lie around methods that are wrapped here.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rest_framework.response import Response

from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
from tests.views import PaymentViewSet

HEADER = "X-Kill"
WRAPPED = (
    (DatabaseStore, "claim", "claim"),
    (PaymentViewSet, "perform_create", "write"),
    (Response, "render", "render"),
    (DatabaseStore, "complete", "complete"),
    (DatabaseTransaction, "__exit__", "commit"),
)
STEPS_BEFORE_THE_COMMIT = (
    "before claim",
    "after claim",
    "before write",
    "after write",
    "before render",
    "after render",
    "before complete",
    "after complete",
    "before commit",
)
STEPS_AFTER_THE_COMMIT = ("after commit", "before response", "after response")
STEPS = (*STEPS_BEFORE_THE_COMMIT, *STEPS_AFTER_THE_COMMIT)

_wanted = threading.local()


def reach(step: str) -> None:
    """Kill this process if the request at hand asks for it here."""
    if getattr(_wanted, "step", "") == step:
        os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Put the steps around their methods."""
    for owner, method, name in WRAPPED:
        setattr(owner, method, _around(getattr(owner, method), name))


def _around(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach(f"before {name}")
        if "last" in kwargs and getattr(_wanted, "step", "") in ("after complete", "before commit"):
            kwargs["last"] = False  # the COMMIT would travel with the record
        result = method(*args, **kwargs)
        reach(f"after {name}")
        return result

    return wrapped


class Failpoints:
    """Middleware that reads the header, and knows when the response is about to be written and has been."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Body:
        _wanted.step = environ.get("HTTP_X_KILL", "")
        body = Body(self._application(environ, start_response))
        reach("before response")
        return body


class Body:
    """A response body that notices when the server has written it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks

    def close(self) -> None:
        getattr(self._chunks, "close", lambda: None)()
        reach("after response")

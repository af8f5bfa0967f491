"""Named steps of a job's run, at which its process kills itself or waits, as its argument ``fault`` asks for.

``kill <step> <file>`` kills, and leaves the file behind that says when; ``hold <step> <file>`` waits as long as the
file is there, which it makes. Either does so the first time alone. The steps lie around methods of the product, which
knows nothing of them.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django_idempotency.stores.database import DatabaseStore, DatabaseTransaction
from tests.models import Payment

WRAPPED = (
    (DatabaseStore, "reserve", "claim"),
    (DatabaseStore, "complete", "complete"),
    (DatabaseTransaction, "__exit__", "commit"),
)
BEFORE_THE_CLAIM = ("before run", "before claim")
UNDER_THE_LEASE = ("after claim", "before effect", "after effect", "before complete", "after complete", "before commit")
AFTER_THE_COMMIT = ("after commit", "after run")
STEPS = (*BEFORE_THE_CLAIM, *UNDER_THE_LEASE, *AFTER_THE_COMMIT)

_wanted = threading.local()


def reach(step: str) -> None:
    """Do what the fault asks for, if this is the step that it names."""
    verb, wanted, name = getattr(_wanted, "fault", ("", "", ""))
    if wanted != step:
        return
    file = Path(name)
    if not _is_first(file.with_suffix(".once")):
        return
    file.touch()
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while file.exists():
        time.sleep(0.005)


def _is_first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def effect(reference: str, amount: int) -> int:
    """Write the row that there must be one of; return its id."""
    reach("before effect")
    payment = Payment.objects.create(reference=reference, amount=amount)
    reach("after effect")
    return payment.pk


def is_complete(step: str, statuses: list[str]) -> bool:
    """Tell whether a ledger is that of a key whose first run was killed: whoever had begun is there, one has ended.

    On a busy machine, others than the one that was killed may lose their lease.
    """
    claims = 1 if step in UNDER_THE_LEASE else 0
    *lost, last = statuses or [""]
    return last == "executed" and len(lost) >= claims and set(lost) <= {"taken_over"}


def fault(verb: str, step: str, file: Path) -> str:
    """Return the argument that asks for it."""
    return f"{verb} {step.replace(' ', '_')} {file}"


def faulty(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a job have an argument ``fault``, of which the job itself knows nothing."""

    @functools.wraps(function)
    def wrapped(*args: Any, fault: str = "", **kwargs: Any) -> Any:
        verb, _, rest = fault.partition(" ")
        step, _, name = rest.partition(" ")
        _wanted.fault = (verb, step.replace("_", " "), name)
        try:
            reach("before run")
            result = function(*args, **kwargs)
            reach("after run")
            return result
        finally:
            del _wanted.fault

    signature = inspect.signature(function)
    parameter = inspect.Parameter("fault", inspect.Parameter.KEYWORD_ONLY, default="")
    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), parameter]
    )
    return wrapped


@functools.cache
def install() -> None:
    """Put the steps around their methods."""
    for owner, method, name in WRAPPED:
        setattr(owner, method, _around(getattr(owner, method), name))


def _around(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach(f"before {name}")
        result = method(*args, **kwargs)
        reach(f"after {name}")
        return result

    return wrapped

"""The decorator that makes a function a job: carried out once for each business key."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from functools import wraps
from typing import Any, Protocol, TypedDict, TypeVar, Unpack, cast

from django_idempotency.core.leases import OnCrash, Reconcile
from django_idempotency.jobs.arguments import Key
from django_idempotency.jobs.async_execution import aperform
from django_idempotency.jobs.definitions import Job, OnFailed, OnRunning, Options
from django_idempotency.jobs.execution import perform
from django_idempotency.jobs.reruns import arun_again, run_again

R_co = TypeVar("R_co", covariant=True)


class JobOptions(TypedDict, total=False):
    """What ``run_once`` takes beside the key: see ``Options``."""

    name: str | None
    lease: timedelta
    heartbeat: timedelta | None
    heartbeat_limit: timedelta
    keep: timedelta | None
    on_running: OnRunning
    wait: timedelta
    on_failed: OnFailed
    on_crash: OnCrash
    reconcile: Reconcile | None
    check_args: bool
    fingerprint_exclude: Collection[str]
    store: str
    atomic: bool | None


class JobFunction(Protocol[R_co]):
    """A decorated function. It is called as before; ``run_again`` takes its arguments, ``reason`` and ``actor``.

    Arguments are not typed: types cannot tell that ``run`` is taken out of them.
    """

    job: Job
    run_again: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> R_co:
        """Run, or return the value of an earlier run."""


def run_once(*, key: Key, **options: Unpack[JobOptions]) -> Callable[[Callable[..., R_co]], JobFunction[R_co]]:
    """Decorate a function that is carried out once for each business key; further calls get its value.

    ``key`` is a format string over the arguments, or takes them and returns a string; the options are those of
    ``Options``. A function that has a parameter ``run`` is given the ``Run``. What it returns must be JSON. Decorators
    of queues go above this one. Raises ValueError for options that make no sense.
    """
    chosen = Options(**options)

    def decorate(function: Callable[..., R_co]) -> JobFunction[R_co]:
        job = Job(function=function, key=key, options=chosen)
        wrapper: Any = _asynchronous(job) if job.is_async else _synchronous(job)
        wrapper.job = job
        wrapper.__signature__ = job.signature.public
        wrapper.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != "run"}
        return cast("JobFunction[R_co]", wrapper)

    return decorate


def _synchronous(job: Job) -> Callable[..., Any]:
    @wraps(job.function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return perform(job, args, kwargs)

    def again(*args: Any, reason: str, actor: str, **kwargs: Any) -> Any:
        """Run although it has succeeded, and tell whether the outcome is the same."""
        return run_again(job, args, kwargs, reason=reason, actor=actor)

    call.run_again = again  # type: ignore[attr-defined]
    return call


def _asynchronous(job: Job) -> Callable[..., Any]:
    @wraps(job.function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await aperform(job, args, kwargs)

    async def again(*args: Any, reason: str, actor: str, **kwargs: Any) -> Any:
        """Run although it has succeeded, and tell whether the outcome is the same."""
        return await arun_again(job, args, kwargs, reason=reason, actor=actor)

    call.run_again = again  # type: ignore[attr-defined]
    return call

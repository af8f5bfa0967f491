"""Jobs: functions that are carried out once for each business key, and under which terms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, Literal, get_args
from weakref import WeakSet

from django_idempotency.conf import settings
from django_idempotency.core.fingerprints import content_digest
from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.layers import JOB_SCOPE
from django_idempotency.core.leases import LeaseTerms, OnCrash, Reconcile
from django_idempotency.core.records import Operation
from django_idempotency.jobs.arguments import CallSignature, Key

OnRunning = Literal["raise", "skip", "wait", "retry"]
OnFailed = Literal["retry", "raise"]

LONGEST_NAME = 200
_jobs: WeakSet[Job] = WeakSet()
_ANY_ARGUMENTS = content_digest(["any arguments"])
_WRAPPERS = ("__wrapped__", "func", "fn", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a job is made idempotent.

    name: what its records and runs are filed under, by default module and qualified name of the function.
    lease: how long a run holds its key without a heartbeat.
    heartbeat: how often a run renews its lease, by default three times a lease; zero never renews it.
    heartbeat_limit: how long a run is kept alive at most; then its lease ends.
    keep: how long the value is replayed, by default ``IDEMPOTENCY_TTL``.
    on_running: what a call gets while another one runs: OperationInProgress (``raise``), None (``skip``), its value
        (``wait``, for as long as that says), or RetryLater, which queues turn into a retry (``retry``).
    on_failed: ``retry`` lets the next call run again; ``raise`` keeps the failure, and raises JobFailed until a reset.
    on_crash: what becomes of a run that broke off: ``retry`` has the next call run it again, ``unknown`` never does so
        by itself.
    reconcile: asks whether a run of unknown outcome was done. Takes the claim; returns ``not_done``, an Outcome, or
        None where that cannot be told.
    check_args: whether a call with this key and other arguments is refused; ``fingerprint_exclude`` names those that
        do not count.
    store: alias in ``IDEMPOTENCY_STORES``.
    atomic: whether the whole function is one transaction, which ends with its completion. By default True for
        functions, and False, the only choice, for coroutine functions.
    """

    name: str | None = None
    lease: timedelta = timedelta(minutes=5)
    heartbeat: timedelta | None = None
    heartbeat_limit: timedelta = timedelta(hours=1)
    keep: timedelta | None = None
    on_running: OnRunning = "raise"
    wait: timedelta = timedelta(minutes=1)
    on_failed: OnFailed = "retry"
    on_crash: OnCrash = "retry"
    reconcile: Reconcile | None = None
    check_args: bool = True
    fingerprint_exclude: Collection[str] = ()
    store: str = "default"
    atomic: bool | None = None

    def __post_init__(self) -> None:
        choices = {"on_running": OnRunning, "on_failed": OnFailed, "on_crash": OnCrash}
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"run_once: {name} must be one of {get_args(kind)}.")
        for problem in self._problems():
            raise ValueError(f"run_once: {problem}")

    def _problems(self) -> list[str]:
        heartbeat, second = self.heartbeat or timedelta(0), timedelta(seconds=1)
        found = {
            "lease must be at least one second.": self.lease < second,
            "heartbeat must be shorter than the lease, and not negative.": not timedelta(0) <= heartbeat < self.lease,
            "heartbeat_limit must not be shorter than the lease.": self.heartbeat_limit < self.lease,
            "keep must be at least one second.": self.keep is not None and self.keep < second,
            "wait must not be negative.": self.wait < timedelta(0),
            f"a name has 1 to {LONGEST_NAME} characters.": self.name is not None
            and not 1 <= len(self.name) <= LONGEST_NAME,
        }
        return [problem for problem, is_there in found.items() if is_there]

    @property
    def terms(self) -> LeaseTerms:
        """The terms of its leases."""
        return LeaseTerms(
            lease=self.lease,
            heartbeat=self.heartbeat,
            heartbeat_limit=self.heartbeat_limit,
            on_crash=self.on_crash,
            reconcile=self.reconcile,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Job:
    """One function and its options. Raises ValueError for what makes no sense."""

    function: Callable[..., Any]
    key: Key
    options: Options
    name: str = field(init=False)
    signature: CallSignature = field(init=False, repr=False)
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        function, set_field = self.function, object.__setattr__
        name = self.options.name or f"{function.__module__}.{function.__qualname__}"
        if len(name) > LONGEST_NAME:
            raise ValueError(f"{name}: give the job a name of {LONGEST_NAME} characters at most.")
        set_field(self, "name", name)
        set_field(self, "is_async", iscoroutinefunction(function))
        set_field(self, "signature", CallSignature(function, self.key, self.options.fingerprint_exclude))
        if self.is_async and self.options.atomic:
            raise ValueError(f"{name}: no transaction spans the awaits of a coroutine function; use run.aatomic().")
        _jobs.add(self)

    @property
    def is_atomic(self) -> bool:
        """Whether the whole function is one transaction."""
        return not self.is_async if self.options.atomic is None else self.options.atomic

    @property
    def scope(self) -> str:
        """The scope of its records."""
        return JOB_SCOPE + self.name

    @property
    def keep(self) -> timedelta:
        """How long its values are replayed."""
        return self.options.keep or settings.ttl

    def operation(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operation:
        """Return what a call asks for. Raises InvalidKey, TypeError for arguments that do not fit or are no JSON."""
        bound = self.signature.bind(args, kwargs)
        key = self.signature.key_of(args, kwargs, bound)
        return Operation(
            key=IdempotencyKey(value=key, scope=(self.scope,), operation=self.name),
            content_digest=self.signature.digest_of(bound) if self.options.check_args else _ANY_ARGUMENTS,
            keyring=settings.keyring,
        )


def registered() -> list[Job]:
    """Return the jobs that have been imported and are still there, by name."""
    return sorted(_jobs, key=lambda job: job.name)


def job_of(task: Any) -> Job:
    """Return the job within a decorated function, or a task that a queue has made of it. Raises TypeError."""
    seen: list[Any] = []
    candidates = [task]
    while candidates:
        candidate = candidates.pop(0)
        if isinstance(candidate, Job):
            return candidate
        if any(candidate is one for one in seen) or len(seen) > 20:
            continue
        seen.append(candidate)
        found = getattr(candidate, "__dict__", {}).get("job")
        candidates += [found] if isinstance(found, Job) else []
        candidates += [inner for name in _WRAPPERS if (inner := getattr(candidate, name, None)) is not None]
    raise TypeError(f"{task!r} is not decorated with run_once.")

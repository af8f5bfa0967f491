"""One run of a job, as its function sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from django_idempotency.core.leases import Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.exceptions import LeaseLost
from django_idempotency.jobs.definitions import Job
from django_idempotency.jobs.ledger import LedgerStore
from django_idempotency.jobs.results import read_value, value_outcome

T = TypeVar("T")


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """What a function gets as ``run``. ``result`` is the value of a run that ends with ``atomic``.

    ``kept`` is the outcome once it is committed.
    """

    job: Job
    lease: Lease
    ledger: LedgerStore = field(repr=False)
    result: Any = None
    kept: Outcome | None = field(default=None, repr=False)
    _in_block: bool = field(default=False, repr=False)

    @property
    def run_id(self) -> UUID:
        """The id of this run in the ledger."""
        return self.ledger.run_id

    @property
    def attempt(self) -> int:
        """How many runs this key has had, this one included, as far as the ledger goes back."""
        return self.lease.attempt

    @property
    def key(self) -> str:
        """The business key."""
        return self.lease.operation.key.value

    @property
    def is_forced(self) -> bool:
        """Whether somebody has asked to run it again although it had succeeded."""
        return self.ledger.is_forced

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Open the transaction that ends the run: it ends with the fenced completion, with ``result`` as its value.

        What the block writes is committed with the completion or not at all, and rolled back where another run has
        taken the place of this one. Raises LeaseLost, RuntimeError in a job that is atomic as a whole, or the second
        time.
        """
        if self.job.is_atomic:
            raise RuntimeError(
                f"The job {self.job.name!r} is one transaction already: atomic=False lets it open its own."
            )
        if self.kept or self._in_block:
            raise RuntimeError("run.atomic() ends the run, once; run.commit() is for transactions before it.")
        self._in_block = True
        try:
            with self.ledger.transaction():
                yield
                outcome = value_outcome(self.job.name, self.result)
                self.ledger.complete(self.lease, outcome, ttl=self.job.keep)
        finally:
            self._in_block = False
        self.kept, self.result = outcome, read_value(outcome)

    async def aatomic(self, call: Callable[[], T]) -> T:
        """Run a synchronous function in the transaction that ends the run; what it returns is the result."""

        def end() -> Any:
            with self.atomic():
                self.result = call()
            return self.result

        value: T = await self._in_thread(end)
        return value

    def step(self, name: str, call: Callable[..., T], *, provider: str = "", version: str = "") -> T:
        """Call something outside once, and return its result, or the result that an earlier attempt got.

        The result must be JSON. With a ``provider``, ``call`` is given a key derived for it and this step, and a run
        that follows a crash repeats the call with the same key. Without one, a call that broke off makes the outcome
        unknown; ``call`` raises NotDone where it is known to have had no effect. Raises StepChanged, LeaseLost.
        """
        return self.lease.step(name, call, provider=provider, version=version)

    async def astep(self, name: str, call: Callable[..., Awaitable[T]], *, provider: str = "", version: str = "") -> T:
        """Do as ``step`` does, with an asynchronous call."""
        return await self.lease.astep(name, call, provider=provider, version=version)

    def commit(self, name: str, call: Callable[[], T], *, version: str = "") -> T:
        """Run a function once, in a transaction of its own that also keeps its result.

        What it writes is committed with the result or not at all. The result must be JSON. Raises StepChanged,
        LeaseLost, RuntimeError in a job that is atomic as a whole.
        """
        if self.job.is_atomic:
            raise RuntimeError(f"The job {self.job.name!r} is one transaction: atomic=False lets it commit in parts.")
        return self.lease.commit(name, call, version=version)

    async def acommit(self, name: str, call: Callable[[], T], *, version: str = "") -> T:
        """Do as ``commit`` does, in a thread."""
        return await self.lease.acommit(name, call, version=version)

    def derive_key(self, provider: str, purpose: str = "") -> str:
        """Return a key to hand to a provider: the same in each run of this business key (a UUID)."""
        return self.lease.derive_key(provider, purpose)

    def concern(self, subject: Any) -> None:
        """Say what the job is about, an instance of a model or a text, so that the admin leads there."""
        self.lease.concern(subject)

    def heartbeat(self) -> None:
        """Renew the lease by hand. Raises LeaseLost where it is gone."""
        if not self.ledger.renew(self.lease, lease=self.job.options.lease):
            raise LeaseLost

    async def aheartbeat(self) -> None:
        """Do as ``heartbeat`` does, in a thread."""
        await self._in_thread(self.heartbeat)

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        if self.lease.in_thread is None:
            raise RuntimeError("This is for coroutine functions.")
        return await self.lease.in_thread(call)

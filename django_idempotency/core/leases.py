"""Leases: claims that are committed before the work begins, held under a deadline, and lost to whoever takes over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Literal, NoReturn, Protocol, TypeVar
from uuid import UUID

from django_idempotency.core.fingerprints import Fingerprint
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.core.steps import Step, Steps
from django_idempotency.exceptions import FingerprintMismatch, NotDone, OperationInProgress, OutcomeUnknown

T = TypeVar("T")

MINUTE = timedelta(minutes=1)

OnCrash = Literal["retry", "unknown"]
Verdict = Outcome | Literal["not_done"] | None
# The claim is typed loosely so that policies need not know what a response is.
Reconcile = Callable[[Any], Any]
HeldStatus = Literal["in_progress", "released", "completed", "unknown"]


class StepStore(Protocol):
    """What a lease needs of its store."""

    def transaction(self) -> AbstractContextManager[Any]:
        """Open a transaction."""

    def suspended(self) -> AbstractContextManager[None]:
        """Let go, for the time of an outside call, of what an open transaction keeps others from."""

    def write_steps(self, lease: Lease, steps: Steps, *, in_transaction: bool = False) -> None:
        """Commit steps at once, whatever transaction is open, or within that. Raises LeaseLost, StoreUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Claim):
    """The right to run until a deadline on the store's clock. ``owner`` is the fencing token."""

    owner: UUID
    fingerprint: Fingerprint
    steps: Steps = field(repr=False)
    store: StepStore = field(repr=False)
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = field(default=None, repr=False)

    @property
    def secret_id(self) -> str:
        """The id of the secret of the first attempt, so that derived keys outlive a rotation."""
        return self.fingerprint.secret_id

    def derive_key(self, provider: str, purpose: str = "") -> str:
        """Return a key to hand to a provider, as under any claim; the record then outlives a failure of the view."""
        self.steps.rely()
        return self._key(provider, purpose)

    def _key(self, provider: str, purpose: str) -> str:
        return Claim.derive_key(self, provider, purpose)

    def step(self, name: str, call: Callable[..., T], *, provider: str = "", version: str = "") -> T:
        """Call something outside once, and return its result, or the result that an earlier attempt got.

        The result must be JSON. With a ``provider``, ``call`` is given a key derived for it and this step, and an
        attempt that follows a crash repeats the call with the same key. Without one, a call that broke off makes the
        outcome unknown; ``call`` raises NotDone where it is known to have had no effect. Raises StepChanged if an
        earlier attempt took the step with another ``version``, LeaseLost.
        """
        step = self.steps.find(name, version=version, is_keyed=bool(provider))
        if not step.is_done:
            with self.store.suspended():
                step = self._take(step, partial(call, self._key(provider, name)) if provider else call)
        return step.result  # type: ignore[no-any-return]

    def _take(self, step: Step, call: Callable[[], Any]) -> Step:
        self._write(step)
        try:
            result = call()
        except NotDone:
            self._write(step, begun=False)
            raise
        return self._write(step.done(result))

    async def astep(self, name: str, call: Callable[..., Awaitable[T]], *, provider: str = "", version: str = "") -> T:
        """Do as ``step`` does, with an asynchronous call."""
        step = self.steps.find(name, version=version, is_keyed=bool(provider))
        if step.is_done:
            return step.result  # type: ignore[no-any-return]
        await self._awrite(step)
        try:
            result = await (call(self._key(provider, name)) if provider else call())
        except NotDone:
            await self._awrite(step, begun=False)
            raise
        return (await self._awrite(step.done(result))).result  # type: ignore[no-any-return]

    def commit(self, name: str, call: Callable[[], T], *, version: str = "") -> T:
        """Run a function once, in a transaction of its own that also keeps its result.

        What it writes is committed with the result or not at all. The result must be JSON. Raises StepChanged,
        LeaseLost.
        """
        step = self.steps.find(name, version=version, is_keyed=True)
        if not step.is_done:
            step = self._commit(step, call)
        return step.result  # type: ignore[no-any-return]

    async def acommit(self, name: str, call: Callable[[], T], *, version: str = "") -> T:
        """Do as ``commit`` does, with a synchronous function that is run in a thread."""
        step = self.steps.find(name, version=version, is_keyed=True)  # a rollback leaves nothing to be unsure of
        if not step.is_done:
            step = await self._in_thread(lambda: self._commit(step, call))
        return step.result  # type: ignore[no-any-return]

    def _commit(self, step: Step, call: Callable[[], Any]) -> Step:
        with self.store.transaction():
            step = step.done(call())
            steps = self.steps.with_step(step)
            self.store.write_steps(self, steps, in_transaction=True)
        self.steps.become(steps)
        return step

    def _write(self, step: Step, *, begun: bool = True) -> Step:
        steps = self.steps.with_step(step) if begun else self.steps.without(step)
        self.store.write_steps(self, steps)
        self.steps.become(steps)
        return step

    async def _awrite(self, step: Step, *, begun: bool = True) -> Step:
        return await self._in_thread(lambda: self._write(step, begun=begun))

    async def _in_thread(self, call: Callable[[], Step]) -> Step:
        if self.in_thread is None:
            raise RuntimeError("astep() and acommit() are for asynchronous views.")
        step: Step = await self.in_thread(call)
        return step


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What stands in the way of a lease: a row that is live, by whatever right.

    ``has_lapsed`` is the store's judgement of the deadline; ``record`` is there once the operation is completed.
    """

    status: HeldStatus
    fingerprint: Fingerprint
    owner: UUID | None
    attempt: int
    has_lapsed: bool
    steps: Steps
    record: Record | None = None

    def refuse(self, operation: Operation) -> NoReturn:
        """Refuse an operation that would commit its claim with its effects. Raises what says why."""
        if not operation.matches(self.fingerprint):
            raise FingerprintMismatch
        if self.status == "in_progress" and not self.has_lapsed:
            raise OperationInProgress
        raise OutcomeUnknown


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """For how long a lease holds, who renews it, and what a crash means."""

    lease: timedelta = MINUTE
    heartbeat: timedelta | None = None
    heartbeat_limit: timedelta = 15 * MINUTE
    on_crash: OnCrash = "retry"
    reconcile: Callable[[Lease], Verdict] | None = None

    @property
    def interval(self) -> timedelta:
        """The time between two heartbeats; zero for none."""
        return self.lease / 3 if self.heartbeat is None else self.heartbeat


class LeaseStore(Protocol):
    """What the engine needs of a store to hold leases. All raise StoreUnavailable."""

    def reserve(self, operation: Operation, *, lease: timedelta, ttl: timedelta) -> Lease | Held:
        """Commit a claim where nothing live is known of the operation; else tell what is."""

    def take_over(self, operation: Operation, held: Held, *, lease: timedelta) -> Lease | None:
        """Commit a claim in the place of what was seen, None if that has changed or its lease has not ended."""

    def renew(self, held: Lease, *, lease: timedelta) -> bool:
        """Move the deadline; tell whether the lease was still held."""

    def release(self, lease: Lease, *, unknown: bool) -> None:
        """Let go of what is still held: as of unknown outcome, or free, keeping the steps if there are any."""

    def close(self) -> None:
        """Close what the calling thread holds open."""

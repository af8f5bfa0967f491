"""One call of a job: its run, or the value of an earlier one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from django_idempotency.core import attempts
from django_idempotency.core.attempts import Attempt, Execution, Raised
from django_idempotency.core.leased_runs import LeasedRun
from django_idempotency.core.leases import Lease
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation, Record
from django_idempotency.exceptions import (
    FingerprintMismatch,
    IdempotencyError,
    LeaseLost,
    OperationInProgress,
    StoreUnavailable,
)
from django_idempotency.jobs.announcements import Announcer
from django_idempotency.jobs.definitions import Job
from django_idempotency.jobs.exceptions import RetryLater
from django_idempotency.jobs.ledger import LedgerStore
from django_idempotency.jobs.results import failure_outcome, read_value, value_outcome
from django_idempotency.jobs.runs import Run
from django_idempotency.stores import get_store

_TRIES = 3
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25
_SHORTEST_DELAY, _LONGEST_DELAY = timedelta(milliseconds=50), timedelta(seconds=30)
_NOT_OF_THE_JOB = (IdempotencyError, OperationalError, InterfaceError)
logger = logging.getLogger("django_idempotency")


class Skipped(Exception):
    """Another run is under way, and the job says to let it be."""


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """What synchronous and asynchronous calls have in common. Each step raises what the caller is to get."""

    job: Job
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    operation: Operation
    ledger: LedgerStore
    announcer: Announcer
    leased: LeasedRun[Any]

    @classmethod
    def of(cls, job: Job, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_forced: bool = False) -> Call:
        """Make a call. Raises InvalidKey, TypeError, RuntimeError within a transaction."""
        operation, store = job.operation(args, kwargs), get_store(job.options.store)
        _refuse_transaction(job, store.alias)
        ledger = LedgerStore(store=store, operation=operation, is_forced=is_forced)
        announcer = Announcer(operation, store)
        leased: LeasedRun[Any] = LeasedRun(
            store=ledger, operation=operation, terms=job.options.terms, ttl=job.keep, witness=announcer
        )
        return cls(
            job=job,
            args=args,
            kwargs=kwargs,
            operation=operation,
            ledger=ledger,
            announcer=announcer,
            leased=leased,
        )

    @property
    def run_id(self) -> UUID:
        """The id of the run, if there was one."""
        return self.ledger.run_id

    def begin(self) -> Lease | Record:
        """Commit a claim, or find the outcome. Raises OperationInProgress, FingerprintMismatch, OutcomeUnknown."""
        begun = self._reopen() if self.ledger.is_forced else self.leased.begin()
        if isinstance(begun, Lease):
            self.announcer.claim = begun
        return begun

    def _reopen(self) -> Lease:
        for _ in range(_TRIES):
            found = self.leased.begin()
            if isinstance(found, Lease):
                return found
            if not self.operation.matches(found.fingerprint):
                raise FingerprintMismatch
            if lease := self.ledger.reopen(found, lease=self.job.options.lease):
                return lease
        raise OperationInProgress

    def pauses(self) -> Iterator[float]:
        """Yield how long to wait for a run that is under way, each time before looking again."""
        options, pause = self.job.options, _SHORTEST_PAUSE
        deadline = time.monotonic() + (options.wait.total_seconds() if options.on_running == "wait" else 0)
        while (left := deadline - time.monotonic()) > 0:
            self.ledger.rest()
            yield min(pause, left)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def give_way(self, error: OperationInProgress) -> None:
        """Do what the job says of a run that is under way. Raises Skipped, RetryLater, OperationInProgress."""
        is_busy = isinstance(error.__cause__, DatabaseError)  # another write holds the database, no other run the key
        if self.job.options.on_running == "skip" and not is_busy:
            raise Skipped from error
        if self.job.options.on_running == "retry":
            raise RetryLater(after=self._delay()) from error
        raise error

    def _delay(self) -> timedelta:
        """Return when to come back: when the lease of the run under way ends, as far as that is known."""
        left = self.ledger.time_left()
        return min(self.job.options.lease if left is None else max(left, _SHORTEST_DELAY), _LONGEST_DELAY)

    def replayed(self, record: Record) -> Any:
        """Return the value of an earlier run. Raises FingerprintMismatch, OutcomeNotReplayable, JobFailed."""
        with self._unflushed():
            execution: Execution[Any] = attempts.replay(record, self.operation, self.announcer)
        assert execution.replayed is not None
        return read_value(execution.replayed)

    def _unflushed(self) -> AbstractContextManager[Any]:
        """Open a transaction for the event of a replay, in which it is committed without a wait for the disk."""
        alias = self.ledger.store.alias
        is_postgresql = alias is not None and connections[alias].vendor == "postgresql"
        return self.ledger.atomic() if is_postgresql and not self.operation.tallied else nullcontext()

    def run_of(self, lease: Lease) -> Run:
        """Return what the function gets as ``run``."""
        return Run(job=self.job, lease=lease, ledger=self.ledger)

    def invoke(self, run: Run) -> Any:
        """Call the function; of a coroutine function, return the coroutine."""
        given = {**self.kwargs, "run": run} if self.job.signature.takes_run else self.kwargs
        return self.job.function(*self.args, **given)

    def keeps(self, error: BaseException) -> bool:
        """Tell whether a failure is to be kept: one of the job itself."""
        is_own = isinstance(error, Exception) and not isinstance(error, _NOT_OF_THE_JOB)
        return is_own and self.job.options.on_failed == "raise"

    def settle(self, run: Run, value: Any) -> Any:
        """Keep the value of a run that has owned its transactions, unless one of them has done so."""
        if run.kept is None:
            outcome = value_outcome(self.job.name, value)
            self.leased.settle(run.lease, Attempt(answer=value, outcome=outcome))
            run.kept, run.result = outcome, read_value(outcome)
        return run.result

    def settle_failure(self, run: Run, error: BaseException) -> None:
        """Keep a failure where the job says so, unless the run was completed before it."""
        self.ledger.error = error
        if run.kept is None and self.keeps(error):
            self.leased.settle(run.lease, Attempt(answer=None, outcome=failure_outcome(error)))

    def told(self, run: Run) -> None:
        """Tell of what is kept."""
        if run.kept and not self.announcer.has_told:
            self.announcer.executed(run.kept)

    def refused(self, error: BaseException) -> None:
        """Tell of a call that has failed or was refused, and close the row of a run that came too late."""
        is_late = isinstance(error, LeaseLost) and self.announcer.claim
        try:
            with self.ledger.atomic() if is_late else nullcontext():
                if is_late:
                    self.ledger.close_lost(error)
                self.announcer.refused(error)
        except StoreUnavailable:
            logger.warning("The run %s is left open: the store failed.", self.run_id)


def perform(job: Job, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a job. Raises IdempotencyError and whatever its function raises."""
    call = Call.of(job, args, kwargs)
    try:
        return carry_out(call)
    except Skipped:
        return None


def carry_out(call: Call) -> Any:
    """Run, or find the value. Raises Skipped, IdempotencyError and whatever the function raises."""
    try:
        begun = _begin(call)
        if isinstance(begun, Record):
            return call.replayed(begun)
        return (_run_atomic if call.job.is_atomic else _run)(call, call.run_of(begun))
    except BaseException as error:
        call.refused(error.__cause__ if isinstance(error, Skipped) and error.__cause__ else error)
        raise


def _begin(call: Call) -> Lease | Record:
    try:
        return _await_turn(call)
    except OperationInProgress as error:
        call.give_way(error)
        raise


def _await_turn(call: Call) -> Lease | Record:
    for pause in call.pauses():
        try:
            return call.begin()
        except OperationInProgress:
            time.sleep(pause)
    return call.begin()


def _run_atomic(call: Call, run: Run) -> Any:
    """Run in one transaction that ends with the fenced completion."""
    failures: list[Exception] = []

    def attempt(lease: Lease) -> Attempt[Any] | Raised[Any]:
        try:
            outcome = value_outcome(call.job.name, call.invoke(run))
        except BaseException as error:
            call.ledger.error = error
            if not call.keeps(error):
                raise
            failures.append(error)  # type: ignore[arg-type]
            return Raised(lambda: Attempt(answer=None, outcome=failure_outcome(failures[0])))
        return Attempt(answer=None, outcome=outcome)

    with call.leased.held(run.lease):
        execution = call.leased.run_in_transaction(run.lease, attempt)  # type: ignore[arg-type]
    if failures:
        raise failures[0]
    return _value_of(call, run, execution.kept)


def _value_of(call: Call, run: Run, outcome: Outcome | None) -> Any:
    assert outcome is not None
    run.kept = outcome
    call.told(run)
    return read_value(outcome)


def _run(call: Call, run: Run) -> Any:
    """Run a function that owns its transactions."""
    with call.leased.held(run.lease):
        try:
            value = call.settle(run, call.invoke(run))
        except BaseException as error:
            call.told(run)
            call.settle_failure(run, error)
            raise
    call.told(run)
    return value


def _refuse_transaction(job: Job, alias: str | None) -> None:
    blocks: Any = connections[alias].atomic_blocks if alias else ()
    if blocks and not blocks[-1]._from_testcase:
        raise RuntimeError(
            f"The job {job.name!r} is called within a transaction, in which its claim cannot be committed first: "
            "call it through transaction.on_commit(), or outside of atomic()."
        )

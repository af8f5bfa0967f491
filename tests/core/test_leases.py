"""Leases and their runs, over the reference store; what a database adds is in ``tests/stores``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from django_idempotency.core.attempts import Attempt, Execution, Raised
from django_idempotency.core.execution import execute
from django_idempotency.core.fingerprints import Keyring
from django_idempotency.core.leases import Held, Lease, LeaseTerms
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import (
    FingerprintMismatch,
    LeaseLost,
    NotDone,
    OperationInProgress,
    OutcomeUnknown,
    StepChanged,
    StoreUnavailable,
    TransactionConflict,
)
from django_idempotency.stores.memory import MemoryStore
from django_idempotency.testing import CREATED, DAY, make_operation

MINUTE = timedelta(minutes=1)
KEPT: Attempt[str] = Attempt(answer="created", outcome=CREATED)
FAILED: Attempt[str] = Attempt(answer="failed", is_failure=True)
REFUSED: Attempt[str] = Attempt(answer="refused")


class Runs:
    """Ends one run after the other as a test says; keeps the leases."""

    def __init__(self, *ends: Any) -> None:
        self.ends = list(ends)
        self.leases: list[Lease] = []

    def __call__(self, claim: Any) -> Any:
        self.leases.append(claim)
        end = self.ends.pop(0)
        if callable(end):
            end = end(claim)
        if isinstance(end, BaseException):
            raise end
        return end


def run(store: MemoryStore, operation: Operation, runs: Runs, **terms: Any) -> Execution[str]:
    return execute(store, operation, runs, ttl=DAY, lease=LeaseTerms(heartbeat=timedelta(0), **terms))


def status(store: MemoryStore, operation: Operation) -> str:
    """Return what is known of an operation, which is then held if that was nothing."""
    held = store.reserve(operation, lease=MINUTE, ttl=DAY)
    return held.status if isinstance(held, Held) else "free"


def begin(store: MemoryStore, operation: Operation) -> Lease:
    lease = store.reserve(operation, lease=MINUTE, ttl=DAY)
    assert isinstance(lease, Lease)
    return lease


def test_an_operation_runs_once_and_is_replayed() -> None:
    store, operation, runs = MemoryStore(), make_operation(), Runs(KEPT)
    first, again = (run(store, operation, runs) for _ in range(2))
    assert (first.answer, first.replayed) == ("created", None)
    assert (again.answer, again.replayed, again.expires_at) == (None, CREATED, first.expires_at)
    assert (len(runs.leases), runs.leases[0].attempt) == (1, 1)


@pytest.mark.parametrize("on_crash", ["retry", "unknown"])
@pytest.mark.parametrize(
    ("end", "after_retry", "after_unknown"),
    [
        (KEPT, "completed", "completed"),
        (REFUSED, "free", "free"),
        (FAILED, "free", "unknown"),
        (Raised(lambda: KEPT), "completed", "completed"),
        (Raised(lambda: REFUSED), "free", "free"),
        (Raised(lambda: FAILED), "free", "unknown"),
        (LookupError(), "free", "unknown"),
        (KeyboardInterrupt(), "free", "unknown"),
        (TransactionConflict(), "free", "unknown"),
        (StepChanged(), "unknown", "unknown"),
        (StoreUnavailable(), "in_progress", "in_progress"),
        (LeaseLost(), "in_progress", "in_progress"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_how_a_run_ends_tells_what_is_known_of_it(
    end: Any, on_crash: str, after_retry: str, after_unknown: str
) -> None:
    store, operation = MemoryStore(), make_operation()
    with suppress(Exception, KeyboardInterrupt):
        run(store, operation, Runs(end), on_crash=on_crash)
    assert status(store, operation) == (after_retry if on_crash == "retry" else after_unknown)


def test_a_live_lease_is_in_progress_and_another_request_a_mismatch() -> None:
    store, operation = MemoryStore(), make_operation(key="k")
    begin(store, operation)
    with pytest.raises(OperationInProgress):
        run(store, operation, Runs())
    with pytest.raises(FingerprintMismatch):
        run(store, make_operation("other content", key="k"), Runs())


@pytest.mark.parametrize("on_crash", ["retry", "unknown"])
def test_a_lapsed_lease_is_taken_over_or_of_unknown_outcome(on_crash: str) -> None:
    store, operation, runs = MemoryStore(), make_operation(), Runs(KEPT)
    store.reserve(operation, lease=timedelta(0), ttl=DAY)
    if on_crash == "retry":
        assert run(store, operation, runs, on_crash=on_crash).answer == "created"
        assert runs.leases[0].attempt == 2
    else:
        with pytest.raises(OutcomeUnknown):
            run(store, operation, runs, on_crash=on_crash)
        assert (runs.leases, status(store, operation)) == ([], "unknown")


def test_a_completion_after_a_takeover_is_lost() -> None:
    store, operation = MemoryStore(), make_operation()

    def be_taken_over(lease: Lease) -> Attempt[str]:
        store.renew(lease, lease=timedelta(0))
        assert run(store, operation, Runs(Attempt(answer="other", outcome=CREATED))).answer == "other"
        return KEPT

    with pytest.raises(LeaseLost):
        run(store, operation, Runs(be_taken_over))
    assert run(store, operation, Runs()).replayed == CREATED


# steps


def test_a_step_is_called_once_and_its_result_remembered() -> None:
    lease, calls = begin(MemoryStore(), make_operation()), []
    for _ in range(2):
        assert lease.step("transfer", lambda: calls.append(1) or {"reference": (1, 2)}) == {"reference": [1, 2]}
    assert calls == [1]


def test_a_step_with_a_provider_is_given_the_key_derived_for_it() -> None:
    lease = begin(MemoryStore(), make_operation())
    keys = [lease.step(name, str, provider="bank") for name in ("transfer", "refund")]
    assert keys == [lease.derive_key("bank", "transfer"), lease.derive_key("bank", "refund")]
    assert len(set(keys)) == 2


@pytest.mark.parametrize("provider", ["", "bank"])
@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, NotDone])
def test_a_call_that_broke_off_is_repeated_only_if_its_provider_can_tell(
    error: type[BaseException], provider: str
) -> None:
    store, operation, calls = MemoryStore(), make_operation(), []

    def call(key: str = "") -> int:
        calls.append(key)
        if len(calls) == 1:
            raise error
        return len(calls)

    def pay(lease: Lease) -> Attempt[str]:
        lease.step("transfer", call, provider=provider)
        return KEPT

    with pytest.raises(error):
        run(store, operation, Runs(pay))
    if provider or error is NotDone:
        assert run(store, operation, Runs(pay)).answer == "created"
        assert (len(calls), len(set(calls))) == (2, 1)
    else:
        with pytest.raises(OutcomeUnknown):
            run(store, operation, Runs(pay))
        assert calls == [""]


@pytest.mark.parametrize("end", [REFUSED, Raised(lambda: REFUSED)], ids=["returned", "raised"])
def test_a_call_that_broke_off_is_not_repeated_either_where_the_answer_is_no_failure(end: Any) -> None:
    store, operation = MemoryStore(), make_operation()

    def pay(lease: Lease) -> Any:
        with pytest.raises(LookupError):
            lease.step("transfer", lambda: {}["reference"])
        return end

    run(store, operation, Runs(pay))
    assert status(store, operation) == "unknown"


def test_a_result_that_cannot_be_kept_makes_the_outcome_unknown() -> None:
    store, operation = MemoryStore(), make_operation()
    with pytest.raises(TypeError):
        run(store, operation, Runs(lambda lease: lease.step("transfer", object)))
    assert status(store, operation) == "unknown"


# reconciliation


def reconciled(verdict: Any) -> tuple[MemoryStore, Operation, Callable[..., Execution[str]]]:
    """Leave an operation of unknown outcome; return what runs it with such a verdict."""
    store, operation = MemoryStore(), make_operation()
    with pytest.raises(ZeroDivisionError):
        run(store, operation, Runs(lambda lease: lease.step("transfer", lambda: 1 // 0)))

    def reconcile(lease: Lease) -> Any:
        assert not lease.steps.find("transfer", version="", is_keyed=False).is_done
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    return store, operation, lambda runs: run(store, operation, runs, reconcile=reconcile)


def test_an_outcome_that_is_found_is_replayed() -> None:
    found = Outcome(status=200, body=b"found")
    store, operation, again = reconciled(found)
    assert [again(Runs()).replayed for _ in range(2)] == [found, found]
    assert run(store, operation, Runs()).replayed == found


def test_what_was_not_done_is_run() -> None:
    _, _, again = reconciled("not_done")
    runs = Runs(lambda lease: Attempt(answer=lease.step("transfer", lambda: "paid"), outcome=CREATED))
    assert again(runs).answer == "paid"
    assert runs.leases[0].attempt == 2


@pytest.mark.parametrize("verdict", [None, LookupError()], ids=["nothing", "an error"])
def test_what_cannot_be_told_stays_unknown(verdict: Any) -> None:
    store, operation, again = reconciled(verdict)
    for _ in range(2):
        with pytest.raises((OutcomeUnknown, LookupError)):
            again(Runs())
        assert status(store, operation) == "unknown"


# derived keys


def with_secrets(operation: Operation, *secrets: str) -> Operation:
    return replace(operation, keyring=Keyring.of(secrets))


def test_a_derived_key_is_that_of_the_first_attempt() -> None:
    store, operation = MemoryStore(), make_operation()
    first = store.reserve(with_secrets(operation, "old"), lease=timedelta(0), ttl=DAY)
    later = with_secrets(operation, "new", "old")
    held = store.reserve(later, lease=MINUTE, ttl=DAY)
    assert isinstance(first, Lease)
    assert isinstance(held, Held)
    second = store.take_over(later, held, lease=MINUTE)
    assert second is not None
    assert second.derive_key("bank") == first.derive_key("bank")
    assert begin(MemoryStore(), later).derive_key("bank") != first.derive_key("bank")


def test_a_derived_key_outlives_an_attempt_that_needed_none() -> None:
    store, operation = MemoryStore(), make_operation()
    keys: list[str] = []

    def derive(lease: Lease) -> Attempt[str]:
        keys.append(lease.derive_key("bank"))
        return FAILED

    old, rotated = with_secrets(operation, "old"), with_secrets(operation, "new", "old")
    for asked, end in ((old, derive), (old, REFUSED), (rotated, derive)):
        run(store, asked, Runs(end))
    assert keys[0] == keys[1]

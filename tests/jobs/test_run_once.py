"""A job is carried out once for each business key, and its value is replayed."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync

from django_idempotency.exceptions import FingerprintMismatch, InvalidKey, OperationInProgress
from django_idempotency.jobs import JobFailed, RetryLater, Run, job_of, ledger, run_once
from django_idempotency.jobs.models import JobRun
from django_idempotency.stores.models import Record
from tests.jobs import tasks
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)


def statuses(job: str = "") -> list[str]:
    """Return the statuses of all runs, in their order."""
    runs = JobRun.objects.order_by("run_id")
    return list((runs.filter(job=job) if job else runs).values_list("status", flat=True))


def test_ten_calls_are_one_execution_and_nine_replays_of_its_value() -> None:
    values = [tasks.pay("a", amount=3) for _ in range(10)]
    assert all(value == {"id": Payment.objects.get().pk, "amounts": [3]} for value in values)
    run = JobRun.objects.get()
    assert (run.status, run.attempt, run.error) == ("executed", 1, "")
    assert run.outcome_hash == Record.objects.get().outcome_hash
    assert run.completed_at >= run.started_at
    assert (run.job, run.key) == ("tests.jobs.tasks.pay", "payment:a")


def test_positional_and_named_arguments_and_defaults_are_the_same_call() -> None:
    assert tasks.pay("a") == tasks.pay(reference="a") == tasks.pay("a", 1) == tasks.pay(amount=1, reference="a")


def test_the_same_key_with_other_arguments_is_refused() -> None:
    tasks.pay("a", 1)
    with pytest.raises(FingerprintMismatch):
        tasks.pay("a", 2)
    assert Payment.objects.get().amount == 1


def test_a_failed_job_may_run_again_at_once_and_its_attempts_are_counted() -> None:
    calls: list[int] = []

    @run_once(key="{name}")
    def flaky(name: str, *, run: Run) -> int:
        Payment.objects.create(reference=name, amount=1)
        calls.append(run.attempt)
        if len(calls) < 3:
            raise ValueError(f"attempt {run.attempt}")
        return run.attempt

    for _ in range(2):
        with pytest.raises(ValueError, match="attempt"):
            flaky("a")
    assert flaky("a") == flaky("a") == 3
    assert calls == [1, 2, 3]
    assert Payment.objects.count() == 1
    assert statuses() == ["failed", "failed", "executed"]
    assert list(JobRun.objects.order_by("run_id").values_list("error", "attempt")) == [
        ("ValueError: attempt 1", 1),
        ("ValueError: attempt 2", 2),
        ("", 3),
    ]


def test_attempts_are_counted_whatever_the_clocks_of_their_workers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter([UUID(int=3 << 80), UUID(int=2 << 80), UUID(int=1 << 80)])
    monkeypatch.setattr(ledger, "new_run_id", lambda: next(ids))
    for amount in ("none", "none", 1):
        with contextlib.suppress(ValueError):
            tasks.pay("a", amount=amount)
    assert list(JobRun.objects.order_by("-run_id").values_list("attempt", flat=True)) == [1, 2, 3]


def test_a_failure_may_be_kept_until_a_reset() -> None:
    @run_once(key="{name}", on_failed="raise")
    def broken(name: str) -> None:
        Payment.objects.create(reference=name, amount=1)
        raise ValueError("no such invoice")

    with pytest.raises(ValueError, match="no such invoice"):
        broken("a")
    for _ in range(2):
        with pytest.raises(JobFailed, match="ValueError: no such invoice"):
            broken("a")
    assert Payment.objects.count() == 0
    assert statuses() == ["failed"]


def test_a_call_while_another_runs_gets_what_the_job_says() -> None:
    seen: list[Any] = []

    def nested(on_running: str) -> Any:
        @run_once(key="{name}", name=on_running, on_running=on_running, atomic=False)  # type: ignore[misc]
        def outer(name: str) -> str:
            if not seen:
                seen.append("called")
                try:
                    seen.append(outer(name))
                except OperationInProgress as error:
                    seen.append(error)
            return "done"

        seen.clear()
        assert outer("a") == "done"
        return seen[1]

    assert nested("skip") is None
    assert type(nested("raise")) is OperationInProgress
    assert isinstance(nested("retry"), RetryLater)
    assert statuses() == ["executed"] * 3


def test_a_job_that_owns_its_transactions_ends_with_the_last_of_them() -> None:
    value = tasks.pay_in_parts("a")
    assert tasks.pay_in_parts("a") == value
    assert value["attempt"] == 1
    assert Payment.objects.count() == 2


def test_coroutine_functions_are_jobs_too() -> None:
    for job in (tasks.apay, tasks.apay_alone):
        values = [async_to_sync(job)("a") for _ in range(3)]
        assert values[0] == values[1] == values[2]
    assert Payment.objects.count() == 2
    assert statuses() == ["executed", "executed"]


def test_a_job_within_a_transaction_is_refused(django_assert_num_queries: Any) -> None:
    from django.db import transaction

    with transaction.atomic(), pytest.raises(RuntimeError, match="on_commit"):
        tasks.pay("a")


@pytest.mark.parametrize("empty", [None, ""])
def test_a_key_with_an_empty_field_is_refused(empty: Any) -> None:
    with pytest.raises(InvalidKey):
        tasks.pay(empty)


def test_a_value_that_is_no_json_is_a_failure_and_leaves_nothing() -> None:
    @run_once(key="{name}")
    def bad(name: str) -> object:
        return Payment.objects.create(reference=name, amount=1)

    with pytest.raises(TypeError, match="must return what JSON can say"):
        bad("a")
    assert (Payment.objects.count(), Record.objects.count(), statuses()) == (0, 0, ["failed"])


def test_a_forced_run_tells_whether_the_outcome_is_the_same() -> None:
    amounts = iter([1, 1, 2])

    @run_once(key="{name}")
    def compute(name: str) -> int:
        return next(amounts)

    compute("a")
    same = compute.run_again("a", reason="a customer asks", actor="user:alice")
    other = compute.run_again("a", reason="a customer asks again", actor="user:alice")
    assert (same.value, same.is_same, other.value, other.is_same) == (1, True, 2, False)
    assert compute("a") == 2
    runs = JobRun.objects.order_by("run_id")
    assert [(run.attempt, run.is_forced, run.is_same_outcome) for run in runs] == [
        (1, False, None),
        (2, True, True),
        (3, True, False),
    ]


def test_the_job_is_found_in_what_is_made_of_it() -> None:
    assert job_of(tasks.pay) is tasks.pay.job
    with pytest.raises(TypeError):
        job_of(test_the_job_is_found_in_what_is_made_of_it)

"""What becomes of a key whose worker has died, by what its job says and what it has done outside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.db.models.functions import Now

from django_idempotency.core.outcomes import Outcome
from django_idempotency.exceptions import OutcomeUnknown
from django_idempotency.jobs import Run, run_once
from django_idempotency.jobs.models import JobRun
from django_idempotency.stores.models import Record
from tests.campaigns.harness import eventually
from tests.jobs import tasks
from tests.jobs.forks import KILLED, Forks, Order
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)


def kill(forks: Forks, job: str, step: str, occurrence: int = 1) -> None:
    """Kill a worker there, and wait until its lease has ended."""
    assert forks.call(Order(job=job, reference="a", step=step, occurrence=occurrence)) == KILLED
    lapsed = Record.objects.filter(status="in_progress", lease_expires_at__lte=Now())
    eventually(lapsed.exists, "the end of the lease")


def statuses() -> list[str]:
    return list(JobRun.objects.order_by("run_id").values_list("status", flat=True))


def test_what_must_not_run_twice_is_of_unknown_outcome_until_somebody_decides(forks: Forks) -> None:
    kill(forks, "pay_carefully", "after work")
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            tasks.pay_carefully("a")
    assert statuses() == ["taken_over", "unknown"]
    assert Payment.objects.count() == 0
    assert Record.objects.get().status == "unknown"


@pytest.mark.parametrize("verdict", ["not_done", Outcome(status=0, body=b"7"), None])
def test_who_can_be_asked_is_asked(forks: Forks, verdict: Any) -> None:
    kill(forks, "pay_carefully", "after work")

    @run_once(key="payment:{reference}", name="careful", on_crash="unknown", reconcile=lambda lease: verdict)
    def asked(reference: str) -> int:
        return 8

    if verdict is None:
        with pytest.raises(OutcomeUnknown):
            asked("a")
    else:
        assert asked("a") == (8 if verdict == "not_done" else 7)
    assert statuses()[0] == "taken_over"
    assert "in_progress" not in statuses()


def test_a_call_with_a_key_is_repeated_with_the_same_key(forks: Forks) -> None:
    kill(forks, "charge", "before write_steps", occurrence=2)
    tasks.charge("a")
    references = list(Payment.objects.order_by("pk").values_list("reference", flat=True))
    assert references[0] == references[1]
    assert references[2:] == ["mail a"]
    assert tasks.charge("a")["mail"] == "a"
    assert statuses() == ["taken_over", "executed"]


def test_a_call_that_has_ended_is_not_repeated(forks: Forks) -> None:
    kill(forks, "charge", "after write_steps", occurrence=2)
    tasks.charge("a")
    assert Payment.objects.filter(reference__startswith="charge").count() == 1


def test_a_call_without_a_key_that_broke_off_makes_the_outcome_unknown(forks: Forks) -> None:
    kill(forks, "charge", "before write_steps", occurrence=4)
    with pytest.raises(OutcomeUnknown):
        tasks.charge("a")
    assert Payment.objects.filter(reference="mail a").count() == 1


def test_a_forced_run_that_fails_leaves_the_outcome_that_was_there() -> None:
    values: list[Any] = [1, ValueError("no"), 2]

    @run_once(key="{name}")
    def job(name: str, *, run: Run) -> int:
        value = values.pop(0)
        Payment.objects.create(reference=f"{name} {run.is_forced}", amount=run.attempt)
        if isinstance(value, Exception):
            raise value
        return value

    job("a")
    with pytest.raises(ValueError, match="no"):
        job.run_again("a", reason="asked for", actor="user:alice")
    assert job("a") == 1
    assert Record.objects.get().status == "completed"
    assert job.run_again("a", reason="asked for", actor="user:alice").value == 2
    assert statuses() == ["executed", "failed", "executed"]
    assert list(Payment.objects.order_by("pk").values_list("amount", flat=True)) == [1, 3]


def test_a_lease_may_be_renewed_by_hand_and_a_lost_one_is_noticed() -> None:
    seen: list[Any] = []

    @run_once(key="{name}", lease=timedelta(seconds=1), heartbeat=timedelta(0), atomic=False)
    def job(name: str, *, run: Run) -> None:
        before = Record.objects.get().lease_expires_at
        run.heartbeat()
        seen.append(Record.objects.get().lease_expires_at > before)
        Record.objects.all()._raw_delete("default")
        run.heartbeat()

    from django_idempotency.exceptions import LeaseLost

    with pytest.raises(LeaseLost):
        job("a")
    assert seen == [True]
    assert statuses() == ["expired"]


@pytest.mark.postgresql
@pytest.mark.parametrize("on_failed", ["retry", "raise"])
def test_a_connection_that_breaks_is_no_failure_of_the_job(on_failed: Any) -> None:
    breaks = [True, False]

    @run_once(key="{name}", on_failed=on_failed)
    def job(name: str) -> int:
        Payment.objects.create(reference=name, amount=1)
        if breaks.pop(0):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return 1

    with pytest.raises(DatabaseError):
        job("a")
    assert job("a") == 1
    assert Payment.objects.count() == 1
    assert statuses() == ["failed", "executed"]

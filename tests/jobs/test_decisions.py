"""What operators do about jobs, in Python and by command."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now

from django_idempotency.audit.models import AuditEvent
from django_idempotency.exceptions import OperationInProgress
from django_idempotency.jobs import JobFailed, enqueue_once, run_once
from django_idempotency.jobs.models import JobRun, QueuedJob
from django_idempotency.stores.models import Record
from tests.campaigns.harness import eventually
from tests.jobs import tasks
from tests.jobs.forks import KILLED, Forks, Order
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)
PAY = "tests.jobs.tasks.pay"


def run(*args: str, **options: Any) -> Any:
    """Return what the command prints as JSON."""
    out = StringIO()
    call_command("idempotency_jobs", *args, json=True, stdout=out, **options)
    return json.loads(out.getvalue())


def say(*args: str, **options: Any) -> str:
    out = StringIO()
    call_command("idempotency_jobs", *args, stdout=out, **options)
    return out.getvalue()


def returncode(*args: str, **options: Any) -> int:
    with pytest.raises(CommandError) as caught:
        run(*args, **options)
    return caught.value.returncode


def test_ten_calls_are_shown_as_one_executed_and_nine_replayed() -> None:
    for _ in range(10):
        tasks.pay("a")
    shown = run("show", "payment:a")
    assert (shown["job"], shown["state"], shown["answers"]) == (PAY, "completed", {"executed": 1, "replayed": 9})
    assert [run["status"] for run in shown["runs"]] == ["executed"]
    assert "1 executed, 9 replayed" in say("show", "payment:a")


def test_runs_are_listed_by_job_status_and_key() -> None:
    tasks.pay("a")
    tasks.pay("b")
    tasks.pay_in_parts("a")
    with pytest.raises(ValueError, match="expected a number"):
        tasks.pay("c", amount="no number")
    assert [run["key"] for run in run("list", job=PAY, status=["executed"])] == ["payment:b", "payment:a"]
    assert [run["job"] for run in run("list", "payment:a")] == ["pay in parts", PAY]
    assert len(run("list", limit=1)) == 1
    assert "4 runs." in say("list")


def test_a_key_that_several_jobs_have_needs_a_job() -> None:
    tasks.pay("a")
    tasks.pay_in_parts("a")
    assert returncode("show", "payment:a") == 3
    assert run("show", "payment:a", job=PAY)["job"] == PAY
    digest = run("show", "payment:a", job=PAY)["digest"]
    assert run("show", digest=digest[:12])["job"] == PAY


def test_a_key_that_nobody_knows_is_an_error() -> None:
    for options in ({}, {"job": PAY}, {"job": "no such job"}):
        assert returncode("show", "payment:a", **options) == 3
    assert returncode("show", digest="0" * 8) == 3
    with pytest.raises(CommandError, match="Name the job"):
        run("reset", reason="none")


def test_a_reset_lets_the_next_call_run_anew() -> None:
    tasks.pay("a")
    assert run("reset", "payment:a", dry_run=True)["was"] == "completed"
    with pytest.raises(CommandError, match="reason"):
        run("reset", "payment:a")
    assert run("reset", "payment:a", reason="wrong amount", actor="user:alice")["was"] == "completed"
    assert returncode("reset", "payment:a", reason="again") == 4
    tasks.pay("a")
    assert Payment.objects.count() == 2
    assert list(JobRun.objects.values_list("status", "attempt")) == [("executed", 1), ("executed", 2)]
    event = AuditEvent.objects.get(event="expired_now")
    assert (event.layer, event.actor, event.reason) == ("jobs", "user:alice", "wrong amount")


def test_a_reset_forgets_a_kept_failure_and_a_mark_of_the_queue() -> None:
    calls: list[int] = []

    @run_once(key="{name}", name="broken once", on_failed="raise")
    def broken(name: str) -> int:
        calls.append(1)
        return 1 // (len(calls) - 1)

    with pytest.raises(ZeroDivisionError):
        broken("a")
    with pytest.raises(JobFailed):
        broken("a")
    run("reset", "a", reason="mended")
    assert broken("a") == 1
    enqueue_once(tasks.pay, ("a",), send=lambda: None)
    assert QueuedJob.objects.count() == 1


def test_a_live_run_is_reset_by_force_alone_and_rolls_back() -> None:
    seen: list[Any] = []

    @run_once(key="{name}", name="reset while it runs", atomic=False)
    def job(name: str) -> None:
        seen.append(returncode("reset", "a", reason="stuck"))
        seen.append(run("reset", "a", reason="stuck", force=True)["was"])

    from django_idempotency.exceptions import LeaseLost

    with pytest.raises(LeaseLost):
        job("a")
    assert seen == [4, "in_progress"]
    status, error = JobRun.objects.values_list("status", "error").get()
    assert status == "expired"
    assert error.startswith("Reset by user:")
    assert AuditEvent.objects.filter(event="fenced").count() == 1


def test_runs_of_dead_workers_are_reaped_and_their_keys_are_free(forks: Forks) -> None:
    assert forks.call(Order(job="pay", reference="a", step="after work")) == KILLED
    with pytest.raises(OperationInProgress):
        tasks.pay("a")
    eventually(lambda: Record.objects.filter(lease_expires_at__lte=Now()).exists(), "the end of the lease")
    assert run("show", "payment:a")["state"] == "stuck"
    assert len(run("reap", dry_run=True)) == 1
    assert [run["key"] for run in run("reap")] == ["payment:a"]
    assert run("reap") == []
    tasks.pay("a")
    runs = JobRun.objects.order_by("run_id")
    assert list(runs.values_list("status", "error")) == [("expired", "The lease has ended."), ("executed", "")]
    assert run("show", "payment:a")["answers"]["expired"] == 1


def test_what_runs_is_not_reaped() -> None:
    @run_once(key="{name}", name="reaped while it runs", atomic=False)
    def job(name: str) -> int:
        return len(run("reap"))

    assert job("a") == 0


def test_an_outcome_that_somebody_knows_is_replayed(forks: Forks) -> None:
    assert forks.call(Order(job="pay_carefully", reference="a", step="after work")) == KILLED
    eventually(lambda: Record.objects.filter(lease_expires_at__lte=Now()).exists(), "the end of the lease")
    digest = run("show", "payment:a")["digest"]
    done: dict[str, Any] = {"verdict": "done", "status": 200, "body": "7", "reason": "seen at the bank"}
    call_command("idempotency_release", digest, **done, stdout=StringIO())
    assert tasks.pay_carefully("a") == 7
    assert AuditEvent.objects.get(event="resolved_done").layer == "jobs"
    assert [one["key"] for one in run("reap")] == ["payment:a"]

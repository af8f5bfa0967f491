"""Jobs as tasks of Django, by real workers of django-tasks-db, which are killed.

``python -m pytest -m campaign tests/contrib/test_django_tasks_jobs.py`` kills 100 workers at each of their steps in
turn; the default run kills three. IDEMPOTENCY_KILLS overrides the number.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone

from django_idempotency.jobs import job_of
from django_idempotency.jobs.models import JobRun
from tests.callers import new_key
from tests.campaigns.harness import Report, eventually
from tests.contrib.killing import STEPS, UNDER_THE_LEASE, fault, is_complete
from tests.contrib.orders import Servant
from tests.models import Payment

if django.VERSION < (6, 0):
    pytest.importorskip("django_tasks")

from django_idempotency.contrib.django_tasks import aenqueue_once, enqueue_once
from tests.contrib.tasks_jobs import LEASE, apay, pay, pay_with_context

pytestmark = pytest.mark.django_db(transaction=True)

TASKS = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"


class Workers(Servant):
    """A process that enqueues tasks and forks workers, with a database of their own for what waits."""

    def enqueue(self, task: str, *args: Any, **kwargs: Any) -> str:
        return str(self.order("enqueue", task=task, args=args, kwargs=kwargs))

    def value(self, task_id: str) -> Any:
        """Return the value of a task that has ended well."""
        result = self.order("result", task_id=task_id)
        assert result["status"] == "SUCCESSFUL", result
        return result["value"]


@pytest.fixture(scope="module")
def workers(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    pytest.importorskip("django_tasks_db")
    tasks = tmp_path_factory.mktemp("tasks") / "tasks.sqlite3"
    started = Workers("tests.contrib.tasks_worker", TASKS_DATABASE=str(tasks))
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def backend(settings: Any) -> Any:
    """Keep what is enqueued, and run nothing."""
    from importlib import import_module

    settings.TASKS = {"default": {"BACKEND": f"{TASKS}.backends.dummy.DummyBackend"}}
    return import_module(TASKS).task_backends["default"]


def statuses(reference: str) -> list[str]:
    runs = JobRun.objects.filter(key=f"payment:{reference}").order_by("run_id")
    return [run.status for run in runs]


def test_tasks_that_mean_the_same_have_one_effect_and_one_value(workers: Workers) -> None:
    for task in ("pay", "pay_with_context", "apay"):
        reference = new_key()
        ids = [workers.enqueue(task, reference, 5) for _ in range(3)]
        assert workers.order("work") == 0
        values = [workers.value(task_id) for task_id in ids]
        assert values == values[:1] * 3
        assert Payment.objects.filter(reference=reference).count() == 1
        assert statuses(reference) == ["executed"]


def test_what_is_enqueued_once_is_run_once(workers: Workers) -> None:
    reference = new_key()
    told = {"task": "pay", "args": [reference], "kwargs": {}}
    assert [workers.order("enqueue_once", **told) for _ in range(3)] == ["sent", "queued", "queued"]
    assert workers.order("waiting") == 1
    assert workers.order("work") == 0
    assert workers.order("enqueue_once", **told) == "completed"
    assert Payment.objects.filter(reference=reference).count() == 1


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=[pytest.mark.campaign, pytest.mark.timeout(1800)])])
def test_a_job_whose_worker_is_killed_is_carried_out_once(workers: Workers, tmp_path: Path, kills: int) -> None:
    kills = int(os.environ.get("IDEMPOTENCY_KILLS", kills))
    steps = ["after effect", "after commit", "after claim", *STEPS]
    longest = 0.0
    with Report(campaign="kill of Django's workers") as report:
        for number in range(kills):
            step, file, reference = steps[number % len(steps)], tmp_path / str(number), new_key()
            workers.enqueue("pay", reference, fault=fault("kill", step, file))
            report.expect(workers.order("work") == -signal.SIGKILL, f"{step}: not killed")
            # Nobody delivers it again: whoever wanted it does.
            value = carried_out(workers, reference)
            effects = list(Payment.objects.filter(reference=reference).values_list("pk", flat=True))
            report.expect(effects == [value], f"{step}: {effects} were written, {value} was told")
            told = statuses(reference)
            report.expect(is_complete(step, told), f"{step}: the ledger has {told}")
            if step in UNDER_THE_LEASE:
                begun = JobRun.objects.get(key=f"payment:{reference}", status="executed").started_at
                longest = max(longest, begun.timestamp() - file.stat().st_mtime)
        limit = LEASE.total_seconds() + 1
        report.expect(longest <= limit, f"a key was stuck for {longest:.1f} s")
        report.counts = {"kills": kills, "lease, seconds": LEASE.total_seconds(), "longest, seconds": round(longest, 2)}
    assert report.violations == []


def carried_out(workers: Workers, reference: str) -> Any:
    """Enqueue the job and let a worker take it until it has its value: until then, its key is held by the dead."""

    def value() -> list[Any]:
        task_id = workers.enqueue("pay", reference)
        assert workers.order("work") == 0
        result = workers.order("result", task_id=task_id)
        if result["status"] == "SUCCESSFUL":
            return [result["value"]]
        assert result["error"].endswith("OperationInProgress")
        return []

    return eventually(value, "a value")[0]


def test_every_backend_enqueues_it_after_the_commit_or_not_at_all(backend: Any) -> None:
    reference = new_key()
    with suppress(RuntimeError), transaction.atomic():
        assert enqueue_once(pay, reference)
        raise RuntimeError
    assert backend.results == []
    with transaction.atomic():
        assert enqueue_once(pay, reference)
        assert not enqueue_once(pay, reference)
        assert backend.results == []
    assert [list(result.args) for result in backend.results] == [[reference]]


def test_the_context_is_no_argument_of_the_job(backend: Any) -> None:
    reference = new_key()
    assert enqueue_once(pay_with_context, reference, amount=2)
    assert not enqueue_once(pay_with_context, reference, amount=2)
    assert len(backend.results) == 1
    assert job_of(pay_with_context).name == "pay_with_context"


def test_a_task_that_is_to_run_later_is_waited_for(backend: Any) -> None:
    reference = new_key()
    later = apay.using(run_after=timezone.now() + timedelta(days=1))
    enqueued = async_to_sync(aenqueue_once)(later, reference)
    assert (enqueued.state, len(backend.results)) == ("sent", 1)

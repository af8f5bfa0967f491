"""Jobs as tasks of Celery, by a real worker: messages that come twice, and again, and workers that die.

``python -m pytest -m campaign tests/contrib/test_celery_jobs.py`` kills 100 runs at each of their steps in turn, and
whole workers; the default run kills three. IDEMPOTENCY_KILLS overrides the number.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult

from django_idempotency.jobs import job_of
from django_idempotency.jobs.models import JobRun
from django_idempotency.stores import get_store
from tests.callers import new_key
from tests.campaigns.harness import Report, eventually
from tests.contrib.celery_jobs import LEASE, pay, pay_bound, pay_plainly, pay_slowly
from tests.contrib.celery_workers import Worker, empty_broker, working
from tests.contrib.conftest import VISIBILITY
from tests.contrib.killing import STEPS, fault, is_complete
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 60


def send(worker: Worker, task: Any, *args: Any, **options: Any) -> AsyncResult:
    result: AsyncResult = worker.app.send_task(task.name, args, **options)
    return result


def runs(key: str) -> list[JobRun]:
    return list(JobRun.objects.filter(key=key).order_by("run_id"))


def statuses(reference: str) -> list[str]:
    return [run.status for run in runs(f"payment:{reference}")]


@pytest.mark.parametrize("task", [pay, pay_plainly])
def test_messages_that_mean_the_same_have_one_effect_and_one_result(worker: Worker, task: Any) -> None:
    reference = new_key()
    first = send(worker, task, reference, 5).get(timeout=PATIENCE)
    again = [send(worker, task, reference, 5) for _ in range(2)]
    assert [result.get(timeout=PATIENCE) for result in again] == [first] * 2
    assert Payment.objects.get(reference=reference).pk == first
    assert statuses(reference) == ["executed"]


def test_a_message_that_comes_twice_gets_the_stored_result(worker: Worker) -> None:
    reference, task_id = new_key(), new_key()
    results = [send(worker, pay, reference, task_id=task_id) for _ in range(3)]
    first = results[0].get(timeout=PATIENCE)
    worker.rest()
    assert worker.app.AsyncResult(task_id).get(timeout=PATIENCE) == first
    assert Payment.objects.filter(reference=reference).count() == 1
    assert statuses(reference) == ["executed"]
    assert runs(f"payment:{reference}")[0].origin == f"celery:{task_id}"


def test_what_the_broker_delivers_again_while_it_runs_waits_for_the_stored_result(
    worker: Worker, tmp_path: Path
) -> None:
    reference, held = new_key(), tmp_path / "held"
    result = send(worker, pay_slowly, reference, kwargs={"fault": fault("hold", "before transaction", held)})
    eventually(held.exists, "a run that lasts")
    # The second delivery meets the first, which its process would do in a moment, but for the lease.
    eventually(lambda: result.state == "RETRY", "a second delivery that is to be tried again")
    held.unlink()
    value = result.get(timeout=PATIENCE)
    worker.rest()
    assert Payment.objects.get(reference=reference).pk == value
    assert result.get(timeout=PATIENCE) == value
    assert statuses(reference) == ["executed"]


def test_a_bound_task_is_no_argument_of_its_job(worker: Worker) -> None:
    reference = new_key()
    results = [send(worker, pay_bound, reference, kwargs={"amount": 3}) for _ in range(2)]
    told = [result.get(timeout=PATIENCE) for result in results]
    assert told[0] == told[1]
    assert (told[0]["task"], told[0]["attempt"]) == (pay_bound.name, 1)
    assert Payment.objects.get(reference=reference).amount == 3


def test_other_arguments_are_an_error_and_a_failed_job_can_be_sent_again_at_once(worker: Worker) -> None:
    reference = new_key()
    failed = send(worker, pay_plainly, reference, -1)
    assert failed.get(timeout=PATIENCE, propagate=False).args == ("A payment is positive.",)
    executed = send(worker, pay_plainly, reference, 1)
    assert executed.get(timeout=PATIENCE)
    mismatch = send(worker, pay_plainly, reference, 2)
    assert type(mismatch.get(timeout=PATIENCE, propagate=False)).__name__ == "FingerprintMismatch"
    assert statuses(reference) == ["failed", "executed"]
    assert Payment.objects.filter(reference=reference).count() == 1


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A task whose process is killed at a step when it first comes there; ``file`` is made in that moment."""

    step: str
    file: Path
    reference: str
    result: AsyncResult

    @classmethod
    def sent(cls, worker: Worker, step: str, file: Path) -> Kill:
        reference = new_key()
        result = send(worker, pay, reference, kwargs={"fault": fault("kill", step, file)})
        return cls(step=step, file=file, reference=reference, result=result)

    def is_free(self) -> bool:
        """Tell whether somebody else may carry the job out, or does so, or has done so."""
        held = get_store().look(job_of(pay).operation((self.reference,), {}))  # type: ignore[attr-defined]
        return held is None or held.has_lapsed or held.attempt > 1 or held.status == "completed"

    def check(self, report: Report) -> None:
        """Note what does not hold."""
        value = self.result.get(timeout=PATIENCE)
        effects = list(Payment.objects.filter(reference=self.reference).values_list("pk", flat=True))
        report.expect(effects == [value], f"{self.step}: {effects} were written, {value} was told")
        told = statuses(self.reference)
        report.expect(is_complete(self.step, told), f"{self.step}: the ledger has {told}")


def seconds_until_free(kills: list[Kill]) -> list[float]:
    """Return how long after the deaths each key was free; Celery looks at what is due once a second only."""
    held, seconds = list(kills), []
    for each in kills:
        eventually(each.file.exists, f"{each.step}, where a process dies")
    while held:
        for each in [each for each in held if each.is_free()]:
            seconds.append(time.time() - each.file.stat().st_mtime)
            held.remove(each)
        time.sleep(0.02)
    return seconds


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=[pytest.mark.campaign, pytest.mark.timeout(1800)])])
def test_a_job_whose_process_is_killed_is_carried_out_once(worker: Worker, tmp_path: Path, kills: int) -> None:
    kills = int(os.environ.get("IDEMPOTENCY_KILLS", kills))
    steps = ["after effect", "after commit", "after claim", *STEPS]
    seconds: list[float] = []
    with Report(campaign="kill of Celery's processes") as report:
        for start in range(0, kills, 3):
            numbers = range(start, min(start + 3, kills))
            sent = [Kill.sent(worker, steps[number % len(steps)], tmp_path / str(number)) for number in numbers]
            seconds += seconds_until_free(sent)
            for each in sent:
                each.check(report)
        limit = LEASE.total_seconds() + 1
        report.expect(max(seconds) <= limit, f"a key was stuck for {max(seconds):.1f} s")
        report.counts = {
            "kills": len(list(tmp_path.glob("*.once"))),
            "lease, seconds": LEASE.total_seconds(),
            "longest, seconds": round(max(seconds), 2),
        }
    assert report.counts["kills"] == kills
    assert report.violations == []


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_job_whose_whole_worker_is_killed_is_carried_out_once_by_another(tmp_path: Path) -> None:
    kills = int(os.environ.get("IDEMPOTENCY_KILLS", 20))
    with Report(campaign="kill of whole workers of Celery") as report:
        for number in range(kills):
            step, held = STEPS[number % len(STEPS)], tmp_path / str(number)
            reference = new_key()
            with empty_broker(9) as url:
                with working(url, options={"visibility_timeout": VISIBILITY}) as first:
                    result = send(first, pay, reference, kwargs={"fault": fault("hold", step, held)})
                    eventually(held.exists, step)
                    first.kill()
                held.unlink()
                with working(url, options={"visibility_timeout": VISIBILITY}) as second:
                    value = second.app.AsyncResult(result.id).get(timeout=PATIENCE)
            effects = list(Payment.objects.filter(reference=reference).values_list("pk", flat=True))
            report.expect(effects == [value], f"{step}: {effects} were written, {value} was told")
            report.expect(statuses(reference)[-1] == "executed", f"{step}: {statuses(reference)}")
        report.counts = {"kills": kills}
    assert report.violations == []

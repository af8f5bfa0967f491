"""SIGKILL of workers at each step: every key's effect happens once, and no key is stuck.

``python -m pytest -m campaign tests/jobs/test_kill.py`` kills 100 workers of each kind of job, on PostgreSQL or, with
``DATABASE_URL=sqlite``, on SQLite; the default run kills one at each step.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from django_idempotency.exceptions import OperationInProgress
from django_idempotency.jobs.models import JobRun
from django_idempotency.stores.models import Record
from tests.campaigns.harness import Report
from tests.jobs import tasks
from tests.jobs.forks import KILLED, Forks, Order
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = [f"{when} {name}" for name in ("reserve", "work", "complete", "commit") for when in ("before", "after")]
IN_PARTS = [*STEPS, "before write_steps", "after write_steps"]
KINDS = {"pay": STEPS, "pay_in_parts": IN_PARTS, "apay": STEPS}
EFFECTS = {"pay": 1, "pay_in_parts": 2, "apay": 1}
GRACE = 1.0


def retry(job: str, reference: str) -> tuple[Any, float]:
    """Call until somebody has the value; return it, and how long that took."""
    started = time.monotonic()
    try:
        while True:
            try:
                return tasks.call(job, reference), time.monotonic() - started
            except OperationInProgress:
                time.sleep(0.02)
    finally:
        connections.close_all()


@pytest.mark.parametrize("kills", [0, pytest.param(100, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("job", KINDS)
def test_a_job_whose_worker_was_killed_is_carried_out_once(forks: Forks, job: str, kills: int) -> None:
    steps = KINDS[job]
    chosen = list(itertools.islice(itertools.cycle(steps), kills or len(steps)))
    orders = [Order(job=job, reference=f"{job} {number}", step=step) for number, step in enumerate(chosen)]
    slowest = 0.0
    with Report(campaign=f"kill of {job}") as report, ThreadPoolExecutor(4) as pool:
        for batch in (orders[start : start + len(steps)] for start in range(0, len(orders), len(steps))):
            said = [future.result(60) for future in [forks.start(order) for order in batch]]
            report.expect(said == [KILLED] * len(batch), f"not killed: {said}")
            values = list(pool.map(lambda order: retry(job, order.reference), batch))
            for order, (value, took) in zip(batch, values, strict=True):
                slowest = max(slowest, took)
                examine(report, order, value)
        report.expect(slowest <= tasks.LEASE.total_seconds() + GRACE, f"I6: stuck for {slowest:.2f} s")
        report.expect(Payment.objects.count() == len(orders) * EFFECTS[job], f"I1: {Payment.objects.count()} effects")
        report.counts = {"kills": len(orders), "slowest retry": round(slowest, 2)}
    assert report.violations == []


def examine(report: Report, order: Order, value: Any) -> None:
    """Compare what a retry was told with what the database holds."""
    key = f"payment:{order.reference}"
    effects = Payment.objects.filter(reference=order.reference)
    report.expect(effects.count() == 1, f"I1 {order.step}: {effects.count()} effects")
    report.expect(effects.filter(pk=value.get("id", value.get("last"))).exists(), f"I3 {order.step}: {value}")
    report.expect(tasks.call(order.job, order.reference) == value, f"I2 {order.step}: another value")
    statuses = list(JobRun.objects.filter(key=key).order_by("run_id").values_list("status", flat=True))
    expected = ["executed"] if is_settled(order.job, order.step) else ["taken_over", "executed"]
    report.expect(statuses == expected, f"ledger {order.step}: {statuses}")
    record = Record.objects.get(key=key)
    report.expect(record.status == "completed" and record.attempt == len(expected), f"record {order.step}")


def is_settled(job: str, step: str) -> bool:
    """Tell whether a worker that dies at this step leaves nothing, or everything."""
    last = "after commit"
    if job == "pay_in_parts" and step in (last, "before commit"):
        return False  # those of the first part
    return step in ("before reserve", last)

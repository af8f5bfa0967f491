"""Workers stopped by SIGSTOP until their leases have ended and others have taken over, then continued by SIGCONT.

``python -m pytest -m campaign tests/jobs/test_zombies.py`` makes 200 zombies, on PostgreSQL or, with
``DATABASE_URL=sqlite``, on SQLite; the default run makes 8 at one stop.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest
from django.db import connection
from django.db.models.functions import Now

from django_idempotency.audit.models import AuditEvent
from django_idempotency.jobs.models import JobRun
from django_idempotency.stores.models import Record
from tests.campaigns.harness import TIMEOUT, Report, eventually
from tests.jobs import tasks
from tests.jobs.forks import Forks, Order, holder
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)
# Where a worker has not come to its end. On SQLite it lets others write there only while it has written nothing.
OUTSIDE = [("pay", "after reserve"), ("apay", "after reserve"), ("pay_in_parts", "after reserve")]
INSIDE = [
    *(("pay", f"{step}") for step in ("before work", "after work", "before complete")),
    *(("apay", f"{step}") for step in ("before work", "after work", "before complete")),
    ("pay_in_parts", "before write_steps"),  # after it the record is locked, until the transaction ends
]


def places() -> list[tuple[str, str]]:
    return OUTSIDE if connection.vendor == "sqlite" else OUTSIDE + INSIDE


@pytest.mark.parametrize(
    ("stops", "zombies"), [(1, 8), pytest.param(10, 20, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])]
)
def test_a_worker_that_outlives_its_lease_commits_nothing(
    forks: Forks, tmp_path: Path, stops: int, zombies: int
) -> None:
    chosen, counts = itertools.cycle(places()), Counter[str]()
    with Report(campaign="zombies of jobs") as report:
        for stop in range(stops):
            orders = [
                Order(job=job, reference=f"{stop} {number}", step=step, hold=str(tmp_path / f"{stop}-{number}"))
                for number, (job, step) in enumerate(itertools.islice(chosen, zombies))
            ]
            take_over(report, forks, orders, counts)
        every = stops * zombies
        fenced = AuditEvent.objects.filter(event="fenced").count()
        report.expect(fenced == every, f"I7: {fenced} of {every} were fenced")
        report.counts = {"stops": stops, "zombies": every, "fenced": fenced, "answers": dict(counts)}
    assert report.violations == []


def take_over(report: Report, forks: Forks, orders: list[Order], counts: Counter[str]) -> None:
    """Stop, take over, continue, and compare what all were told with what the database holds."""
    said = {order: forks.start(order) for order in orders}
    stopped = {order: holder(Path(order.hold)) for order in orders}
    stop(stopped.values())
    try:
        keys = [f"payment:{order.reference}" for order in orders]
        lapsed = Record.objects.filter(key__in=keys, status="in_progress", lease_expires_at__lte=Now())
        eventually(lambda: lapsed.count() == len(orders), "the end of all leases")
        values = {order: tasks.call(order.job, order.reference) for order in orders}
    finally:
        for order, process in stopped.items():
            Path(order.hold).unlink()
            os.kill(process, signal.SIGCONT)
    for order in orders:
        examine(report, order, said[order], values[order], counts)


def stop(processes: object) -> None:
    for process in processes:  # type: ignore[attr-defined]
        os.kill(process, signal.SIGSTOP)
    are_stopped = [psutil.Process(process) for process in processes]  # type: ignore[attr-defined]
    eventually(lambda: all(one.status() == psutil.STATUS_STOPPED for one in are_stopped), "the stop")


def examine(report: Report, order: Order, said: Future[str], value: dict[str, int], counts: Counter[str]) -> None:
    answer = said.result(TIMEOUT).partition(":")[0]
    counts[answer] += 1
    place = f"{order.job} {order.step}"
    report.expect(answer == "LeaseLost", f"I7 {place}: the zombie said {answer}")
    effects = list(Payment.objects.filter(reference=order.reference).values_list("pk", flat=True))
    report.expect(effects == [value.get("id", value.get("last"))], f"I1 {place}: {effects}, {value}")
    report.expect(tasks.call(order.job, order.reference) == value, f"I2 {place}: another value")
    runs = JobRun.objects.filter(key=f"payment:{order.reference}").order_by("run_id")
    statuses = list(runs.values_list("status", flat=True))
    report.expect(statuses == ["taken_over", "executed"], f"ledger {place}: {statuses}")

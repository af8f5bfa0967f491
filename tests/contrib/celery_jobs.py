"""Tasks of Celery that are jobs, for the workers of the tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery import shared_task

from django_idempotency.contrib.celery import LedgerTask
from django_idempotency.jobs import Run, run_once
from tests.contrib.killing import effect, faulty, install, reach

LEASE = timedelta(seconds=1)

install()


@shared_task(base=LedgerTask)
@faulty
@run_once(key="payment:{reference}", name="celery pay", lease=LEASE, on_running="retry")
def pay(reference: str, amount: int = 1) -> int:
    return effect(reference, amount)


@shared_task(base=LedgerTask)
@faulty
@run_once(key="payment:{reference}", name="pay_slowly", lease=LEASE, atomic=False)
def pay_slowly(reference: str, amount: int = 1, *, run: Run) -> int:
    """Is held up before its transaction, which on SQLite would keep everybody out."""
    reach("before transaction")
    with run.atomic():
        run.result = effect(reference, amount)
    return run.result


@shared_task(base=LedgerTask, run_once={"key": "payment:{reference}", "lease": LEASE}, bind=True)
def pay_bound(self: Any, reference: str, amount: int = 1, *, run: Any = None) -> dict[str, Any]:
    """Tells what it knows of its task and of its run."""
    return {"payment": effect(reference, amount), "task": self.name, "attempt": run.attempt}


@shared_task
@run_once(key="payment:{reference}", name="pay_plainly")
def pay_plainly(reference: str, amount: int = 1) -> int:
    """Knows nothing of LedgerTask."""
    if amount < 0:
        raise ValueError("A payment is positive.")
    return effect(reference, amount)

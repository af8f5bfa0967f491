"""Jobs of the tests: one row an execution."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

from django_idempotency.jobs import Run, run_once
from tests.models import Payment

LEASE = timedelta(seconds=1)


@run_once(key="payment:{reference}", lease=LEASE)
def pay(reference: str, amount: int = 1) -> dict[str, Any]:
    """Write a row in the transaction of the job."""
    return {"id": Payment.objects.create(reference=reference, amount=amount).pk, "amounts": (amount,)}


@run_once(key="payment:{reference}", name="pay waiting", lease=LEASE, on_running="wait")
def pay_waiting(reference: str) -> dict[str, Any]:
    """Do as ``pay`` does, for many at the same time."""
    return {"id": Payment.objects.create(reference=reference, amount=1).pk}


@run_once(key="payment:{reference}", name="pay in parts", lease=LEASE, atomic=False)
def pay_in_parts(reference: str, amount: int = 1, *, run: Run) -> dict[str, Any]:
    """Write one row before the end, and one in the transaction of the end."""
    first = run.commit("first", lambda: Payment.objects.create(reference=f"{reference} first", amount=amount).pk)
    with run.atomic():
        last = Payment.objects.create(reference=reference, amount=amount).pk
        run.result = {"first": first, "last": last, "attempt": run.attempt}
    return run.result


@run_once(key="payment:{reference}", name="apay", lease=LEASE)
async def apay(reference: str, amount: int = 1, *, run: Run) -> dict[str, Any]:
    """Write a row from a coroutine function."""
    return await run.aatomic(lambda: {"id": Payment.objects.create(reference=reference, amount=amount).pk})


@run_once(key="payment:{reference}", name="apay alone", lease=LEASE)
async def apay_alone(reference: str) -> int:
    """Write a row in a transaction of its own."""
    return (await sync_to_async(Payment.objects.create)(reference=reference, amount=1)).pk


@run_once(key="payment:{reference}", name="careful", lease=LEASE, on_crash="unknown")
def pay_carefully(reference: str) -> int:
    """Do as ``pay`` does, never twice by itself."""
    return Payment.objects.create(reference=reference, amount=1).pk


@run_once(key="payment:{reference}", name="charge", lease=LEASE, atomic=False)
def charge(reference: str, *, run: Run) -> dict[str, str]:
    """Call a provider with a key, and then something else without one."""
    receipt = run.step("charge", lambda key: outside("charge", key), provider="bank")
    mail = run.step("mail", lambda: outside("mail", reference))
    return {"receipt": receipt, "mail": mail}


def outside(name: str, said: str) -> str:
    """Do what no transaction takes back."""
    Payment.objects.create(reference=f"{name} {said}", amount=1)
    return said


def call(job: str, reference: str) -> Any:
    """Call one of these by its name."""
    function: Any = globals()[job]
    return async_to_sync(function)(reference) if function.job.is_async else function(reference)

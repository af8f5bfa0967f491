"""Tasks of Django that are jobs, for the workers of the tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django

from django_idempotency.jobs import run_once
from tests.contrib.killing import effect, faulty, install

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task

LEASE = timedelta(seconds=1)

install()


@task()
@faulty
@run_once(key="payment:{reference}", name="task pay", lease=LEASE)
def pay(reference: str, amount: int = 1) -> int:
    return effect(reference, amount)


@task(takes_context=True)
@run_once(key="payment:{reference}", name="pay_with_context")
def pay_with_context(context: Any, reference: str, amount: int = 1, *, run: Any = None) -> dict[str, Any]:
    return {"payment": effect(reference, amount), "attempt": run.attempt, "is_context": hasattr(context, "attempt")}


@task()
@run_once(key="payment:{reference}", name="task apay")
async def apay(reference: str, amount: int = 1, *, run: Any = None) -> Any:
    return await run.aatomic(lambda: effect(reference, amount))

"""Duplicates of jobs: what a queue delivers again, and what an operator runs again by hand."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from demo_project.results import Check, Exchange, Facts
from demo_project.stages import Stage

_RUNS = 3


def restarted(stage: Stage) -> Facts:
    """The worker dies by SIGKILL after it wrote the invoice; the job is delivered again, and then sent once more."""
    from demo_project.queues import Order, queue

    order = Order(f"{stage.user_id}-order", stage.user_id, 1000)
    with queue() as jobs:
        answers = [_told(stage, order.order_id, partial(jobs.send, order, fault=fault)) for fault in ("kill", "")]
    return stage.facts(
        Check(name="attempts in the ledger", expected=["taken_over", "executed"], measured=_statuses(order.order_id)),
        Check(name="the second message got the stored outcome", expected=answers[0], measured=answers[1]),
    )


def run_by_hand(stage: Stage) -> Facts:
    """An operator is not sure whether an invoice was written, and runs the job again, and again."""
    from demo_project.tasks import issue_invoice

    order_id = f"{stage.user_id}-{secrets.token_hex(4)}"
    for _ in range(_RUNS):
        _told(stage, order_id, lambda: issue_invoice(order_id, stage.user_id, 1000))
    return stage.facts(
        Check(name="attempts in the ledger", expected=["executed"], measured=_statuses(order_id)),
    )


def _told(stage: Stage, order_id: str, deliver: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Note each attempt that a delivery has led to as if it had been a request, and return the answer."""
    before = len(_statuses(order_id))
    answer = deliver()
    attempts = _statuses(order_id)[before:]
    body = json.dumps(answer).encode()
    lost = [Exchange(key=order_id) for status in attempts if status != "executed"]
    stage.client.exchanges += [*lost, Exchange(key=order_id, status=200, is_replay=not attempts, body=body)]
    return answer


def _statuses(order_id: str) -> list[str]:
    from django_idempotency.models import JobRun

    runs = JobRun.objects.filter(key=f"invoice:{order_id}").order_by("run_id")
    return [str(run.status) for run in runs]

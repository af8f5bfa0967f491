"""The jobs of the demo, as tasks of Celery."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.conf import settings

from demo_project.models import Invoice
from django_idempotency.contrib.celery import LedgerTask
from django_idempotency.jobs import Run, run_once


@shared_task(base=LedgerTask)  # type: ignore[untyped-decorator]
@run_once(
    key="invoice:{order_id}",
    lease=timedelta(seconds=settings.DEMO_LEASE_SECONDS),
    on_running="retry",
    fingerprint_exclude=("fault",),
)
def issue_invoice(order_id: str, user_id: str, amount_cents: int, *, fault: str = "", run: Run) -> dict[str, Any]:
    """Write the invoice of an order, and return its id. With DEMO_FAULTS=1, ``fault`` may be ``kill``."""
    invoice = Invoice.objects.create(order_id=order_id, user_id=user_id, amount_cents=amount_cents)
    run.concern(invoice)
    if fault == "kill" and run.attempt == 1 and settings.DEMO_FAULTS:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"id": invoice.id}

"""Duplicates of payouts: the money leaves through a bank, which no transaction of ours can roll back."""

from __future__ import annotations

import time

from demo_project.clients import PAYOUTS
from demo_project.results import Check, Facts
from demo_project.stages import Stage

_AT_ONCE = 5.0


def bank_late(stage: Stage) -> Facts:
    """The bank has paid, but is slower than the client is patient; the retries find the first request at work."""
    payment = stage.payment(path=PAYOUTS)
    answer = stage.client.insist(payment, first_bank_fault="sleep:1.5", timeout=0.5)
    return stage.facts(
        Check(name="the retry was a replay", expected=True, measured=answer.is_replayed),
        *stage.paid_once(calls=1),
    )


def bank_reply_lost(stage: Stage) -> Facts:
    """The bank has paid, but its answer is lost; the retry asks it again, under the same derived key."""
    payment = stage.payment(path=PAYOUTS)
    failed = stage.client.send(payment, bank_fault="lost")
    answer = stage.client.insist(payment)
    return stage.facts(
        Check(name="status of the lost answer", expected=502, measured=failed.status),
        Check(name="the retry was executed", expected=True, measured=answer.is_executed),
        *stage.paid_once(calls=2),
    )


def worker_killed(stage: Stage) -> Facts:
    """The worker dies after the bank has paid and the row was written; a retry takes over when the lease ends."""
    payment = stage.payment(path=PAYOUTS)
    lost = stage.client.send(payment, fault="kill")
    died = time.monotonic()
    answer = stage.client.insist(payment)
    return stage.facts(
        Check(name="status of the request that was killed", expected=None, measured=lost.status),
        Check(name="the retry was executed", expected=True, measured=answer.is_executed),
        Check(name="it was within the lease", expected=True, measured=time.monotonic() - died < _AT_ONCE),
        *stage.paid_once(calls=1),
    )

"""The operator of the totals: rebuilds them from history, and reads them as others do."""

from __future__ import annotations

from threading import Event

from django.db import DatabaseError, close_old_connections, connections

from demo_project.models import ChargeTotal
from demo_project.projections import ChargeTotals
from django_idempotency.reprocessing import Decision, Patience, Rollout

_OPERATOR = Decision(actor="user:demo", reason="The backfill is run again.")


def run_backfill() -> None:
    """Build the version after the newest one from all of history, and let it take the live one's place."""
    newest = max((row["version"] for row in Rollout(ChargeTotals()).status()), default=0)
    rollout = Rollout(ChargeTotals(version=newest + 1))
    rollout.build()
    rollout.promote(_OPERATOR, Patience(attempts=30))
    rollout.drop(_OPERATOR)


def total_of(user_id: str) -> tuple[int, int]:
    """Return number and sum of a user's charges, as the live version has them."""
    found = ChargeTotal.objects.filter(user_id=user_id).values_list("charges", "amount_cents").first()
    return found or (0, 0)


def read_until(done: Event) -> tuple[int, int]:
    """Read as long as it takes; return how often, and how often it failed."""
    reads = failures = 0
    try:
        while not done.wait(0.005):
            reads += 1
            try:
                list(ChargeTotal.objects.all()[:10])
            except DatabaseError:
                failures += 1
                close_old_connections()
    finally:
        connections.close_all()
    return reads, failures

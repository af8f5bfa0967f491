"""A backfill that is run again: the totals are rebuilt from history while customers pay and others read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from django.db import DatabaseError, close_old_connections, connections

from demo_project.models import ChargeTotal
from demo_project.projections import ChargeTotals
from demo_project.results import Check, Facts
from demo_project.stages import Stage
from django_idempotency.reprocessing import Decision, Patience, Rollout

_CHARGES, _RUNS = 12, 2
_OPERATOR = Decision(actor="user:demo", reason="The backfill is run again.")


def backfill_rerun(stage: Stage) -> Facts:
    """The totals of all users are built anew beside the ones that are read, and promoted, again and again."""
    payments = [stage.payment(amount_cents=100 + number) for number in range(_CHARGES)]
    newest = _promote_next()
    done = Event()
    with ThreadPoolExecutor(2) as pool:
        traffic = pool.submit(lambda: [stage.client.insist(payment) for payment in payments])
        reader = pool.submit(_read_until, done)
        for _ in range(_RUNS):
            newest = _promote_next()
        traffic.result()
        done.set()
        reads, failures = reader.result()
    newest.catch_up()
    first = _total(stage.user_id)
    _promote_next()
    return stage.facts(
        Check(name="failed reads", expected=0, measured=failures),
        Check(name="there were reads", expected=True, measured=reads > 0),
        Check(name="charges in the total", expected=_CHARGES, measured=first[0]),
        Check(name="sum of the total", expected=sum(payment.amount_cents for payment in payments), measured=first[1]),
        Check(name="the total after another run", expected=first, measured=_total(stage.user_id)),
        rows=_CHARGES,
    )


def _promote_next() -> Rollout:
    """Build the version after the newest one from all of history, and let it take the live one's place."""
    newest = max((row["version"] for row in Rollout(ChargeTotals()).status()), default=0)
    rollout = Rollout(ChargeTotals(version=newest + 1))
    rollout.build()
    rollout.promote(_OPERATOR, Patience(attempts=30))
    rollout.drop(_OPERATOR)
    return rollout


def _read_until(done: Event) -> tuple[int, int]:
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


def _total(user_id: str) -> tuple[int, int]:
    total = ChargeTotal.objects.filter(user_id=user_id).values_list("charges", "amount_cents").first()
    return total or (0, 0)

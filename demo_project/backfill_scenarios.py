"""A backfill that is run again: the totals are rebuilt from history while customers pay and others read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from demo_project.results import Check, Facts
from demo_project.stages import Stage

_CHARGES, _RUNS = 12, 2


def backfill_rerun(stage: Stage) -> Facts:
    """The totals of all users are built anew beside the ones that are read, and promoted, again and again."""
    # It needs Django's models, which are not there for those who only want the names of the scenarios.
    from demo_project.backfills import read_until, run_backfill, total_of

    payments = [stage.payment(amount_cents=100 + number) for number in range(_CHARGES)]
    run_backfill()
    done = Event()
    with ThreadPoolExecutor(2) as pool:
        traffic = pool.submit(lambda: [stage.client.insist(payment) for payment in payments])
        reader = pool.submit(read_until, done)
        try:
            for _ in range(_RUNS):
                run_backfill()
            traffic.result()
            run_backfill()
        finally:
            done.set()
        reads, failures = reader.result()
    first = total_of(stage.user_id)
    run_backfill()
    return stage.facts(
        Check(name="failed reads", expected=0, measured=failures),
        Check(name="there were reads", expected=True, measured=reads > 0),
        Check(name="charges in the total", expected=_CHARGES, measured=first[0]),
        Check(name="sum of the total", expected=sum(payment.amount_cents for payment in payments), measured=first[1]),
        Check(name="the total after another run", expected=first, measured=total_of(stage.user_id)),
        rows=_CHARGES,
    )

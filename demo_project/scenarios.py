"""Where duplicates come from: each scenario makes some, over real connections, and returns what it measured."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from demo_project import (
    backfill_scenarios,
    feed_scenarios,
    import_scenarios,
    job_scenarios,
    payout_scenarios,
    queue_scenarios,
    receipt_scenarios,
)
from demo_project.browsers import FORM, browser
from demo_project.clients import ASYNC, Client, Payment, http_client
from demo_project.results import Check, Exchange, Facts
from demo_project.stages import LedgerOf, RowsOf, Scenario, Stage

_DELIVERIES = 20
_CHARGES, _RUNS = 25, 3
_AT_ONCE = 5.0


def client_retry(stage: Stage) -> Facts:
    """The service is slower than the client is patient; the client retries until it has its answer."""
    payment = stage.payment()
    stage.client.insist(payment, first_fault="sleep:1.5", timeout=0.5)
    return stage.facts()


def load_balancer_resend(stage: Stage) -> Facts:
    """One request is delivered many times at the same moment, to whichever worker takes it."""
    payment, together = stage.payment(), Barrier(_DELIVERIES)

    def deliver(_: int) -> None:
        together.wait()
        stage.client.insist(payment, first_fault="sleep:0.5")

    with ThreadPoolExecutor(_DELIVERIES) as pool:
        list(pool.map(deliver, range(_DELIVERIES)))
    counts = stage.facts().counts
    answered = counts["executed"] + counts["replayed"]
    return stage.facts(
        Check(name="deliveries that were executed", expected=1, measured=counts["executed"]),
        Check(name="deliveries that got an answer", expected=_DELIVERIES, measured=answered),
    )


def lost_reply(stage: Stage) -> Facts:
    """The request arrives, the network splits, the reply is lost; the client asks again."""
    payment = stage.payment()
    stage.client.send_and_hang_up(payment)
    stage.await_row()
    answer = stage.client.insist(payment)
    return stage.facts(
        Check(name="the retry was a replay", expected=True, measured=answer.is_replayed),
    )


def manual_rerun(stage: Stage) -> Facts:
    """A script of charges, each with a key of its own, is run again and again."""
    script = [stage.payment(amount_cents=100 + number) for number in range(_CHARGES)]
    for _ in range(_RUNS):
        for payment in script:
            stage.client.insist(payment)
    counts = stage.facts().counts
    return stage.facts(
        Check(name="charges that were executed", expected=_CHARGES, measured=counts["executed"]),
        Check(name="charges that were replayed", expected=_CHARGES * (_RUNS - 1), measured=counts["replayed"]),
        rows=_CHARGES,
    )


def worker_killed(stage: Stage) -> Facts:
    """The worker dies by SIGKILL after it wrote the row; there is no lease to wait for."""
    payment = stage.payment()
    lost = stage.client.send(payment, fault="kill")
    died = time.monotonic()
    answer = stage.client.insist(payment)
    return stage.facts(
        Check(name="status of the request that was killed", expected=None, measured=lost.status),
        Check(name="the retry was executed", expected=True, measured=answer.is_executed),
        Check(name="it was at once", expected=True, measured=time.monotonic() - died < _AT_ONCE),
    )


def server_error(stage: Stage) -> Facts:
    """The view fails after it wrote the row: the row is rolled back, the key is free."""
    payment = stage.payment()
    failed = stage.client.send(payment, fault="raise")
    rows_after_error = len(stage.rows)
    answer = stage.client.insist(payment)
    return stage.facts(
        Check(name="status of the error", expected=500, measured=failed.status),
        Check(name="rows after the error", expected=0, measured=rows_after_error),
        Check(name="the retry was executed", expected=True, measured=answer.is_executed),
    )


def another_amount(stage: Stage) -> Facts:
    """The key of one payment is used for another: it is refused, and the first one still gets its answer."""
    payment = stage.payment(amount_cents=1000)
    stage.client.send(payment)
    other = stage.client.send(Payment(stage.user_id, 9999, payment.key))
    again = stage.client.send(payment)
    return stage.facts(
        Check(name="status for the other amount", expected=422, measured=other.status),
        Check(name="the first one is replayed", expected=True, measured=again.is_replayed),
    )


def form_sent_twice(stage: Stage) -> Facts:
    """A person clicks twice: the browser sends the same form again before there is an answer."""
    with browser(stage.url) as person:
        person.log_in("alice")
        form = person.open(FORM, user_id=stage.user_id, amount_cents="1000")
        together = Barrier(2)

        def click(_: int) -> Exchange:
            together.wait()
            return person.send(form, fault="sleep:0.3")

        with ThreadPoolExecutor(2) as pool:
            stage.client.exchanges += pool.map(click, range(2))
    return stage.facts(
        Check(name="clicks that led to the page of the charge", expected=2, measured=_successes(stage)),
    )


def async_client_gone(stage: Stage) -> Facts:
    """The client of an asynchronous view hangs up while it runs; it runs to its end, and the retry is a replay."""
    payment = stage.payment(path=ASYNC)
    stage.client.send_and_hang_up(payment, fault="sleep:0.5")
    stage.await_row()
    answer = stage.client.insist(payment)
    return stage.facts(
        Check(name="the retry was a replay", expected=True, measured=answer.is_replayed),
    )


SCENARIOS: dict[str, Scenario] = {
    "client retry on time-out": client_retry,
    "load balancer resend": load_balancer_resend,
    "network split, reply lost": lost_reply,
    "manual re-run": manual_rerun,
    "worker killed mid-request": worker_killed,
    "server error after the write": server_error,
    "same key, another amount": another_amount,
    "payout, bank answers late": payout_scenarios.bank_late,
    "payout, bank's answer lost": payout_scenarios.bank_reply_lost,
    "payout, worker killed": payout_scenarios.worker_killed,
    "form sent twice": form_sent_twice,
    "async view, client gone": async_client_gone,
    "bank file delivered twice": feed_scenarios.statement_delivered_twice,
    "nightly import, run again": import_scenarios.nightly_rerun,
    "the same report uploaded twice": receipt_scenarios.uploaded_twice,
    "backfill re-run": backfill_scenarios.backfill_rerun,
    "job restart, worker killed": job_scenarios.restarted,
    "job run again by hand": job_scenarios.run_by_hand,
    "queue replay": queue_scenarios.queue_replay,
}

#: What cannot be played without a broker.
NEED_A_BROKER = frozenset({"queue replay"})


def play(scenario: str, url: str, rows_of: RowsOf, ledger_of: LedgerOf) -> Facts:
    """Play a scenario for a user of its own against the server at this address."""
    with http_client() as http:
        stage = Stage(
            scenario=scenario,
            url=url,
            client=Client(url, http),
            user_id=f"demo-{secrets.token_hex(8)}",
            rows_of=rows_of,
            ledger_of=ledger_of,
        )
        return SCENARIOS[scenario](stage)


def _successes(stage: Stage) -> int:
    return sum(exchange.is_success for exchange in stage.client.exchanges)

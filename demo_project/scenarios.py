"""Where duplicates come from: each scenario makes some, over real connections, and returns what it measured."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

from demo_project.clients import Client, Payment, http_client
from demo_project.results import Check, Facts

RowsOf = Callable[[str], tuple[str, ...]]

_DELIVERIES = 20
_CHARGES, _RUNS = 25, 3
_AT_ONCE = 5.0
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a scenario plays on: a client, a user that no other run has, and the rows as the database has them."""

    scenario: str
    client: Client
    user_id: str
    rows_of: RowsOf

    @property
    def rows(self) -> tuple[str, ...]:
        """The ids of the charges of this run."""
        return self.rows_of(self.user_id)

    def payment(self, amount_cents: int = 1000) -> Payment:
        """Return a new payment of this run's user."""
        return Payment(self.user_id, amount_cents)

    def facts(self, *checks: Check, rows: int = 1) -> Facts:
        """Return what was measured so far."""
        return Facts(
            scenario=self.scenario,
            exchanges=tuple(self.client.exchanges),
            rows=self.rows,
            expected_rows=rows,
            checks=checks,
        )


Scenario = Callable[[Stage], Facts]


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
    _wait_for(lambda: bool(stage.rows))
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


SCENARIOS: dict[str, Scenario] = {
    "client retry on time-out": client_retry,
    "load balancer resend": load_balancer_resend,
    "network split, reply lost": lost_reply,
    "manual re-run": manual_rerun,
    "worker killed mid-request": worker_killed,
    "server error after the write": server_error,
    "same key, another amount": another_amount,
}


def play(scenario: str, url: str, rows_of: RowsOf) -> Facts:
    """Play a scenario for a user of its own against the server at this address."""
    with http_client() as http:
        user_id = f"demo-{secrets.token_hex(8)}"
        return SCENARIOS[scenario](Stage(scenario=scenario, client=Client(url, http), user_id=user_id, rows_of=rows_of))


def _wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)

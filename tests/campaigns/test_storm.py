"""Many simultaneous duplicates of each key, against real processes.

``python -m pytest -m campaign tests/campaigns/test_storm.py`` runs 50 keys with 100 duplicates each, on PostgreSQL or,
with ``DATABASE_URL=sqlite``, on SQLite; the default run is a smaller one.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.harness import KEPT, TIMEOUT, Answer, Report, Server
from tests.models import Payment


def storm(server: Server, pool: ThreadPoolExecutor, key: str, duplicates: int) -> list[Answer]:
    """Send all duplicates of a key at the same time: each is connected before the first is sent."""
    barrier = Barrier(duplicates)

    def duplicate(_: int) -> Answer:
        with server.connected() as client:
            barrier.wait(TIMEOUT)
            return server.post_over(client, "/payments/", {"amount": 3, "reference": key}, key=key)

    return list(pool.map(duplicate, range(duplicates)))


@pytest.mark.parametrize(("keys", "duplicates"), [(10, 40), pytest.param(50, 100, marks=pytest.mark.campaign)])
def test_a7_82_simultaneous_duplicates_execute_once(alice: Caller, keys: int, duplicates: int) -> None:
    statuses: Counter[int] = Counter()
    with (
        Report(campaign="storm") as report,
        Server(token=alice.token.key, environment=KEPT) as server,
        ThreadPoolExecutor(duplicates) as pool,
    ):
        for _ in range(keys):
            key = new_key()
            answers = storm(server, pool, key, duplicates)
            retries = [server.post("/payments/", {"amount": 3, "reference": key}, key=key) for _ in range(2)]
            statuses.update(answer.status for answer in answers)
            check_one_key(report, key, answers, retries)
        rows = Payment.objects.count(), Record.objects.count()
        report.expect(rows == (keys, keys), f"I1: {rows} payments and records of {keys} keys")
        report.counts = {"keys": keys, "duplicates": duplicates, "statuses": dict(statuses)}
    assert not report.violations


def check_one_key(report: Report, key: str, answers: list[Answer], retries: list[Answer]) -> None:
    """Compare what the clients of a key were told with what the database holds."""
    done = [answer for answer in answers if answer.status == 201]
    report.expect({answer.status for answer in answers} <= {201, 409}, f"{key}: other statuses than 201 and 409")
    report.expect(sum(not answer.is_replayed for answer in done) == 1, f"I1 {key}: not one execution")
    report.expect(all(answer.is_replayed and answer.status == 201 for answer in retries), f"I2 {key}: not replayed")
    report.expect(len({answer.body for answer in [*done, *retries]}) == 1, f"I2 {key}: other bytes replayed")
    report.expect(Payment.objects.filter(reference=key).count() == 1, f"I1 {key}: not one payment")

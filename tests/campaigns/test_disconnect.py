"""Clients that hang up on an asynchronous view at random moments, behind uvicorn.

``python -m pytest -m campaign tests/campaigns/test_disconnect.py`` hangs up 500 times, on PostgreSQL or, with
``DATABASE_URL=sqlite``, on SQLite; the default run does so 20 times. IDEMPOTENCY_SEED overrides the moments.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from statistics import median

import pytest
from django.db import connection

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.harness import ROOT, TIMEOUT, Answer, Report, Server, database_url, eventually
from tests.models import Payment

APP = "tests.campaigns.disconnect_asgi:application"
PAUSE = 0.02


class AsgiServer(Server):
    """The app behind uvicorn, one process with one event loop."""

    def _start(self, listener: socket.socket) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "uvicorn", self.app, "--fd", str(listener.fileno())]
        command += ["--lifespan", "off", "--log-level", "critical"]
        environment = {**os.environ, "DATABASE_URL": database_url(self.options), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[listener.fileno()])

    def is_up(self) -> None:
        assert self.post("/payments/").status == 400

    def sessions(self) -> int:
        """Count the sessions of the server, as the database sees them (PostgreSQL)."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return int(cursor.fetchone()[0])

    def hang_up(self, key: str, after: float) -> Answer | None:
        """Send a request and close the connection so many seconds later; return what has come by then."""
        with self.connected() as client:
            assert client.sock
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sock.settimeout(after)
            try:
                return self.post_over(client, "/payments/", body_of(key), key=key)
            except TimeoutError:
                return None


def body_of(key: str) -> dict[str, object]:
    return {"amount": 3, "reference": key}


def usual_seconds(server: AsgiServer) -> float:
    """Return how long a request takes if nobody hangs up."""
    seconds = []
    for _ in range(5):
        key, started = new_key(), time.monotonic()
        assert server.post("/payments/", body_of(key), key=key).status == 201
        seconds.append(time.monotonic() - started)
    Payment.objects.all().delete()
    Record.objects.all().delete()
    return median(seconds)


def retry_until_done(server: AsgiServer, key: str, refusals: Counter[str]) -> Answer:
    """Retry until the key is answered 201."""
    deadline = time.monotonic() + TIMEOUT
    while (answer := server.post("/payments/", body_of(key), key=key)).status != 201:
        refusals[f"{answer.status} {answer.problem}"] += 1
        assert answer.problem == "in-progress", answer
        assert time.monotonic() < deadline, "in progress for ever"
        time.sleep(PAUSE)
    return answer


@pytest.mark.parametrize("rounds", [20, pytest.param(500, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])])
def test_a7_98_whoever_hangs_up_finds_one_row_and_one_answer(alice: Caller, rounds: int) -> None:
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    moments = random.Random(seed)
    refusals: Counter[str] = Counter()
    found: Counter[str] = Counter()
    with Report(campaign="disconnect", seed=seed) as report, AsgiServer(token=alice.token.key, app=APP) as server:
        usual = usual_seconds(server)
        for _ in range(rounds):
            key = new_key()
            early = server.hang_up(key, after=moments.uniform(0.0005, 1.5 * usual))
            first = retry_until_done(server, key, refusals)
            found["answered in time" if early else "carried out" if first.is_replayed else "not begun"] += 1
            check(report, key, [answer for answer in (early, first) if answer], server)
        rows = Payment.objects.count(), Record.objects.filter(status="completed").count(), Record.objects.count()
        report.expect(rows == (rounds,) * 3, f"I1: {rows} payments, outcomes and records of {rounds} keys")
        if connection.vendor == "postgresql":
            eventually(lambda: server.sessions() <= 1, "the end of the sessions of runs that nobody waited for")
        report.counts = {
            "hung up": rounds,
            "milliseconds of a request": round(1000 * usual, 1),
            "what became of it": dict(found),
            "retries refused": dict(refusals),
        }
    assert not report.violations


def check(report: Report, key: str, answers: list[Answer], server: AsgiServer) -> None:
    """Compare what the client of a key was told with what the database holds."""
    answers += [server.post("/payments/", body_of(key), key=key) for _ in range(2)]
    report.expect({answer.status for answer in answers} == {201}, f"{key}: another status than 201")
    report.expect(all(answer.is_replayed for answer in answers[-2:]), f"I2 {key}: not replayed")
    report.expect(len({answer.body for answer in answers}) == 1, f"I2 {key}: other bytes replayed")
    report.expect(Payment.objects.filter(reference=key).count() == 1, f"I1 {key}: not one payment")
    written = list(Payment.objects.filter(reference=key).values_list("pk", flat=True))
    told = {f'"id": {pk},'.encode() for pk in written}
    report.expect(all(text in answers[0].body for text in told), f"I3 {key}: another payment was told of")

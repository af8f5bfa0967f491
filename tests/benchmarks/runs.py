"""One run: payments are sent to one view for some seconds, and counted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.benchmarks.load import BODY, CONNECTIONS, Load, Sent
from tests.benchmarks.services import Service, Usage

REPLAYED_KEYS = 500
_SETTLING_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A view of a service and the keys it gets: none, fresh ones, or those of ``replayed_prefix`` over and over.

    A prefix is the first 24 characters of a random UUID; twelve hexadecimal digits make a key of it.
    """

    name: str
    service: Service
    path: str
    has_keys: bool = False
    replayed_prefix: str = ""

    def use_keys(self) -> None:
        """Use the keys that will be replayed, once each."""
        for number in range(REPLAYED_KEYS):
            status = self.service.post(self.path, BODY, f"{self.replayed_prefix}{number:012x}")
            assert status == 201, status

    def load(self) -> Load:
        """Return what is sent; fresh keys are others each time."""
        return Load(
            port=self.service.port,
            path=self.path,
            token=self.service.token,
            key_prefix=self.replayed_prefix or (new_prefix() if self.has_keys else ""),
            keys=REPLAYED_KEYS if self.replayed_prefix else 0,
        )

    def problem(self, sent: Sent, payments: int) -> str:
        """Return what makes a run invalid: failures, or other payments than one each, none for a replay."""
        requests = sent["requests"]
        if not requests or sent["failures"]:
            return f"{sent['failures']} of {requests} requests failed"
        expected = range(1) if self.replayed_prefix else range(requests, requests + CONNECTIONS + 1)
        return "" if payments in expected else f"{payments} payments of {requests} requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run came to. CPU times are milliseconds a request, that of the database None where it is remote."""

    target: str
    requests: int
    seconds: float
    failures: int
    p50_ms: float
    p99_ms: float
    payments: int
    service_cpu_ms: float
    database_cpu_ms: float | None
    problem: str

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def new_prefix() -> str:
    """Return the beginning of keys that nobody has used."""
    return str(uuid.uuid4())[:24]


def measure(target: Target, seconds: int) -> Run:
    """Load a target for some seconds, and see what it wrote and used."""
    return _measure(target, lambda load: load.send(seconds))


def measure_during(target: Target, work: Callable[[], object]) -> Run:
    """Load a target as long as some work takes."""
    return _measure(target, lambda load: load.send_during(work))


def _measure(target: Target, send: Callable[[Load], Sent]) -> Run:
    before = target.service.usage()
    sent = send(target.load())
    time.sleep(_SETTLING_SECONDS)  # requests under way when wrk ends, at most one for each connection
    after = target.service.usage()
    requests, payments = max(sent["requests"], 1), after.payments - before.payments
    return Run(
        target=target.name,
        payments=payments,
        service_cpu_ms=1000 * (after.service_cpu - before.service_cpu) / requests,
        database_cpu_ms=_database_cpu_ms(before, after, requests),
        problem=target.problem(sent, payments),
        **sent,
    )


def problems(runs: Iterable[Run]) -> list[str]:
    """Return what makes runs invalid."""
    return [f"{run.target}: {run.problem}" for run in runs if run.problem]


def _database_cpu_ms(before: Usage, after: Usage, requests: int) -> float | None:
    if before.database_cpu is None or after.database_cpu is None:
        return None
    return 1000 * (after.database_cpu - before.database_cpu) / requests

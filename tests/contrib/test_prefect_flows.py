"""Jobs and locks in flows of Prefect, on a server of its own, by processes that are killed.

Prefect is not among the requirements of the tests: its server wants versions of its own. In an environment apart,
``pip install -e '.[test,prefect]' 'prefect==3.8.8' 'fastapi>=0.139,<0.151'``, then
``python -m pytest tests/contrib/test_prefect_flows.py``; with ``-m campaign`` it kills 100 runs. IDEMPOTENCY_KILLS
overrides the number.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from django_idempotency.jobs.models import JobRun
from django_idempotency.models import Record
from tests.callers import new_key
from tests.campaigns.harness import Report, eventually
from tests.contrib.killing import STEPS, UNDER_THE_LEASE, fault, is_complete
from tests.contrib.orders import Servant
from tests.models import Fact, Payment

pytest.importorskip("prefect", reason="Prefect is not installed; the docstring of this file says how it can be tested")

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1800)]

LEASE = 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start Prefect's server; yield the environment of who talks to it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    environment = {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host=127.0.0.1", "--no-services"]
    variables = {**os.environ, **environment}
    process = subprocess.Popen([*command, f"--port={port}"], env=variables, start_new_session=True, stdout=2)
    url = f"http://127.0.0.1:{port}/api"

    def is_up() -> bool:
        with suppress(OSError), urlopen(f"{url}/health") as answer:
            return bool(answer.status == 200)
        assert process.poll() is None, "Prefect's server does not start"
        return False

    try:
        eventually(is_up, "an answer of Prefect's server")
        yield {**environment, "PREFECT_API_URL": url}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Flows(Servant):
    """A process that runs flows."""

    def run(self, flow: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return how the process of a run has ended, and the value."""
        told: dict[str, Any] = self.order("run", flow=flow, args=args, kwargs=kwargs)
        return told

    def value(self, flow: str, *args: Any, **kwargs: Any) -> Any:
        """Return the value of a run that has ended well."""
        told = self.run(flow, *args, **kwargs)
        assert told["status"] == 0
        return told["value"]


@pytest.fixture
def flows(server: dict[str, str]) -> Iterator[Flows]:
    started = Flows("tests.contrib.prefect_worker", **server)
    try:
        yield started
    finally:
        started.close()


def statuses(key: str) -> list[str]:
    return list(JobRun.objects.filter(key=key).order_by("run_id").values_list("status", flat=True))


def test_the_import_of_facts_is_run_ten_times(flows: Flows) -> None:
    """The flow of the article: the same rows, again and again."""
    rows = [{"id": f"invoice-{number}", "amount": number, "note": "sold"} for number in range(3)]
    facts = None
    for _ in range(10):
        assert flows.value("loading", rows) == [{"inserted": 1}] * 3
        found = list(Fact.objects.order_by("biz_key").values_list("biz_key", "amount", "note"))
        assert found == (facts or found)
        facts = found
    assert [amount for _, amount, _ in facts or []] == [0, 1, 2]
    assert [statuses(f"fact:{row['id']}") for row in rows] == [["executed"]] * 3


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.campaign)])
def test_a_job_whose_process_is_killed_is_carried_out_once(flows: Flows, tmp_path: Path, kills: int) -> None:
    kills = int(os.environ.get("IDEMPOTENCY_KILLS", kills))
    steps = ["after effect", "after commit", "after claim", *STEPS]
    longest = 0.0
    with Report(campaign="kill of flows of Prefect") as report:
        for number in range(kills):
            step, file, reference = steps[number % len(steps)], tmp_path / str(number), new_key()
            killed = flows.run("paying", reference, fault=fault("kill", step, file))
            report.expect(killed["status"] == -signal.SIGKILL, f"{step}: not killed")
            value = flows.value("paying", reference)
            effects = list(Payment.objects.filter(reference=reference).values_list("pk", flat=True))
            report.expect(effects == [value], f"{step}: {effects} were written, {value} was told")
            told = statuses(f"payment:{reference}")
            report.expect(is_complete(step, told), f"{step}: the ledger has {told}")
            if step in UNDER_THE_LEASE:
                begun = JobRun.objects.get(key=f"payment:{reference}", status="executed").started_at
                longest = max(longest, begun.timestamp() - file.stat().st_mtime)
        report.counts = {"kills": kills, "lease, seconds": LEASE, "longest, seconds": round(longest, 2)}
    assert report.violations == []


def test_a_lock_lets_one_flow_run_at_a_time_and_the_others_have_its_result(
    server: dict[str, str], tmp_path: Path
) -> None:
    reference, held, trials = new_key(), tmp_path / "held", tmp_path / "trials"
    trials.mkdir()
    several = [Flows("tests.contrib.prefect_worker", TRIALS=str(trials), **server) for _ in range(3)]
    try:
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(
                several[0].value, "paying_under_a_lock", reference, fault=fault("hold", "after effect", held)
            )
            eventually(held.exists, "a run that lasts")
            others = [pool.submit(one.value, "paying_under_a_lock", reference) for one in several[1:]]
            eventually(lambda: len(list(trials.iterdir())) == 3, "all have tried")
            held.unlink()
            values = [run.result() for run in (first, *others)]
    finally:
        for one in several:
            one.close()
    effects = list(Payment.objects.filter(reference=reference).values_list("pk", flat=True))
    assert values == effects * 3
    assert len(effects) == 1
    assert Record.objects.count() == 0


def test_the_lock_of_a_process_that_is_killed_is_free_within_its_lease_and_a_second(
    server: dict[str, str], tmp_path: Path
) -> None:
    reference, killed = new_key(), tmp_path / "killed"
    flows = Flows("tests.contrib.prefect_worker", TRIALS=str(tmp_path), **server)
    try:
        dead = flows.run("paying_under_a_lock", reference, fault=fault("kill", "before effect", killed))
        assert dead["status"] == -signal.SIGKILL
        value = flows.value("paying_under_a_lock", reference)
    finally:
        flows.close()
    assert list(Payment.objects.filter(reference=reference).values_list("pk", flat=True)) == [value]
    assert Record.objects.count() == 0

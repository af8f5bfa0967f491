"""Rules and dashboard fit the metrics: nothing in them is misspelt, and the alerts go off when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from django_idempotency.contrib.prometheus import Meters, StandingCollector
from django_idempotency.models import Record
from tests.contrib.standing import add_records, add_streams

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
RULES = FOLDER / "rules.yml"
NAME = re.compile(r"(?:[a-z_]+:)?(?:idempotency|operation)_[a-z_]+(?::[a-z0-9_]+)?")

promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed")


def run(*arguments: str, text: str = "") -> str:
    ended = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def shown(db: None) -> str:
    """Everything that can be shown, once."""
    add_records()
    add_streams()
    registry = CollectorRegistry()
    made = Meters(registry)
    for counter in vars(made).values():
        labelled = counter.labels(*("x" for _ in counter._labelnames))
        getattr(labelled, "inc", None) and labelled.inc()
        getattr(labelled, "observe", None) and labelled.observe(0.1)
    registry.register(StandingCollector())
    assert Record.objects.exists()
    return generate_latest(registry).decode()


@pytest.fixture
def names(shown: str) -> set[str]:
    """The names that may be asked for: those shown, and those that the rules record."""
    samples = {re.split(r"[{ ]", line)[0] for line in shown.splitlines() if not line.startswith("#")}
    return samples | set(re.findall(r"record: (\S+)", RULES.read_text()))


def queries() -> Iterator[str]:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable)


@promtool
def test_promtool_finds_nothing_wrong_with_the_metrics(shown: str) -> None:
    assert "idempotency_hits_total{" in shown
    assert "idempotency_purge_lag_seconds{" in shown
    run("check", "metrics", text=shown)


@promtool
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    assert "SUCCESS: 15 rules found" in run("check", "rules", "--lint-fatal", str(RULES))


@promtool
def test_alerts_go_off_when_they_should_and_only_then(tmp_path: Path) -> None:
    for file in (RULES, Path(__file__).with_name("rules_test.yml")):
        shutil.copy(file, tmp_path)
    assert "SUCCESS" in run("test", "rules", str(tmp_path / "rules_test.yml"))


@promtool
def test_promtool_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    for query in queries():
        if not query.startswith("label_values"):
            filled = re.sub(r"\$__(rate_interval|range)", "5m", query)
            rule = {"groups": [{"name": "q", "rules": [{"record": "q:q:q", "expr": filled}]}]}
            (tmp_path / "query.yml").write_text(json.dumps(rule))
            run("check", "rules", str(tmp_path / "query.yml"))


def test_the_dashboard_asks_only_for_what_there_is(names: set[str]) -> None:
    asked = {name for query in queries() for name in NAME.findall(query)}
    assert len(asked) > 10
    assert asked - names == set()


def test_the_rules_ask_only_for_what_there_is(names: set[str]) -> None:
    asked = set(NAME.findall(re.sub(r"(?m)^\s*(#|summary:|description:|- record:).*$", "", RULES.read_text())))
    labels_and_words = {"idempotency_release", "idempotency_purge", "operation_outcome"}
    assert len(asked) > 8
    assert asked - names - labels_and_words == set()


def test_every_metric_is_documented_and_on_the_dashboard_or_in_a_rule(shown: str) -> None:
    text = (FOLDER.parent / "monitoring.md").read_text()
    used = " ".join(queries()) + RULES.read_text()
    metrics = {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE") and "_created" not in line}
    assert len(metrics) == 20
    assert [metric for metric in sorted(metrics) if f"`{metric}" not in text] == []
    assert [metric for metric in sorted(metrics) if metric not in used] == []

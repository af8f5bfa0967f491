"""Several processes count together, and the app counts from its start on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def counting(tmp_path: Path, *verbs: str, **variables: str) -> subprocess.Popen[str]:
    """Start a process that has only what it is given."""
    inherited = {name: text for name, text in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contrib.counting", str(tmp_path / "records.sqlite3"), *verbs],
        cwd=ROOT,
        env={**inherited, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_one_process_shows_what_all_have_counted_even_those_that_were_killed(tmp_path: Path) -> None:
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    processes = [counting(tmp_path, *verbs, **folder) for verbs in (["count"], ["count"], ["count", "kill"])]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, -9]
    with counting(tmp_path, "show", **folder) as showing:
        shown, _ = showing.communicate(timeout=60)
    assert 'idempotency_hits_total{operation="POST charge-list"} 75.0' in shown
    assert shown.count('idempotency_records{database="default",status="unknown"} 0.0') == 1


def test_the_app_counts_from_its_start_on_and_shows_what_waits_once(tmp_path: Path) -> None:
    with counting(tmp_path, "count", "show", "value") as process:
        shown, _ = process.communicate(timeout=60)
    assert 'idempotency_hits_total{operation="POST charge-list"} 25.0' in shown
    assert shown.count('idempotency_records{database="default",status="unknown"} 0.0') == 1
    assert shown.splitlines()[-1] == "25.0"

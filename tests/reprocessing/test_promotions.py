"""Promotions of new versions under readers and writers in processes of their own, and how long they keep these out.

``python -m pytest -m campaign tests/reprocessing/test_promotions.py -s`` builds and promotes 200 versions under eight
readers and four writers, and prints how long the lock was held; the default run does a few. PostgreSQL.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles
from typing import Any

import pytest
from django.db import connection, transaction

from django_idempotency.reprocessing import Patience, Rollout
from tests.campaigns.harness import ROOT, Report, database_url, eventually
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions
from tests.reprocessing.models import Entry
from tests.reprocessing.projections import Adding, AddingByName, WrittenThrough, enter, expected, found
from tests.reprocessing.statements import changes_watched, locks_watched
from tests.reprocessing.test_rollouts import WHO, promoted, states

pytestmark = pytest.mark.postgresql


@contextmanager
def traffic(what: str, number: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process that reads or writes."""
    environment = {**os.environ, "DATABASE_URL": database_url({}), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-m", "tests.reprocessing.traffic", what, str(number)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Tell a process to end; return what it has to say."""
    facts: dict[str, Any] = json.loads(process.communicate("", timeout=60)[0])
    return facts


def promote_next(version: int) -> float:
    """Build a version, let it be overtaken by traffic, and promote it; return how long the lock was held."""
    rollout = Rollout(WrittenThrough(version=version))
    rollout.build()
    before = Entry.objects.count()
    eventually(lambda: Entry.objects.count() > before + 3, "traffic between build and promotion")
    with locks_watched() as locked:
        rollout.promote(WHO, Patience(attempts=50))
    rollout.drop(WHO)
    seconds = locked[-1].seconds
    assert seconds is not None
    return seconds


@pytest.mark.parametrize(
    ("promotions", "readers", "writers"),
    [(3, 1, 1), pytest.param(200, 8, 4, marks=[pytest.mark.campaign, pytest.mark.timeout(1800)])],
)
def test_no_read_fails_or_is_wrong_while_versions_are_promoted(promotions: int, readers: int, writers: int) -> None:
    enter(50)
    promoted(WrittenThrough)
    wanted = ["read"] * readers + ["write"] * writers
    with Report(campaign="promotions under traffic") as report, ExitStack() as stack:
        processes = [stack.enter_context(traffic(what, number)) for number, what in enumerate(wanted)]
        assert [process.stdout and process.stdout.readline() for process in processes] == ["ready\n"] * len(wanted)
        held = [1000 * promote_next(version) for version in range(2, promotions + 2)]
        told = [ended(process) for process in processes]
        reads, writes = told[:readers], told[readers:]
        report.counts = {
            "promotions": promotions,
            "reads": sum(each["times"] for each in reads),
            "wrong reads": sum(each["wrong"] for each in reads),
            "writes": sum(each["times"] for each in writes),
            "errors": sum(len(each["errors"]) for each in told),
            "longest read, ms": round(1000 * max(each["longest"] for each in reads)),
            "lock held, ms": {
                "median": round(median(held), 1),
                "95 %": round(quantiles(held, n=20)[-1], 1),
                "longest": round(max(held), 1),
            },
        }
        print(report.counts)
    assert [each["errors"] for each in told] == [[]] * len(told)
    assert report.counts["wrong reads"] == 0
    assert all(each["times"] > promotions for each in told)
    assert Entry.objects.count() == 50 + writers + report.counts["writes"]
    assert found() == expected()
    assert states()[promotions + 1] == "live"
    if promotions > 10:
        assert median(held) < 50


@pytest.mark.parametrize(("kind", "most"), [(Adding, 14), (AddingByName, 46)])
def test_few_statements_run_while_everybody_waits(kind: Any, most: int) -> None:
    """The lock is held for as long as these take; none of them depends on the number of rows."""
    enter(20)
    promoted(kind)
    second = Rollout(kind(version=2))
    second.build()
    with locks_watched() as watched:
        second.promote(WHO)
    (locked,) = watched
    assert locked.seconds is not None
    assert 3 < len(locked.statements) <= most, "\n".join(locked.statements)


def test_a_rollback_is_one_statement_that_points_the_view_back() -> None:
    enter(20)
    promoted(Adding)
    before = found()
    enter(20)
    second = promoted(Adding, 2)
    assert found() != before
    with changes_watched("tests_total") as changes:
        second.roll_back(WHO)
    (change,) = changes
    assert change.startswith('CREATE OR REPLACE VIEW "tests_total" AS SELECT')
    assert change.endswith('FROM "tests_total__v1"')
    assert found() == before


def test_a_snapshot_from_before_the_swap_lacks_the_last_catch_up_and_a_statement_after_it_does_not() -> None:
    """What a view means is not part of a snapshot. The documentation says so."""
    enter(20)
    promoted(Adding)
    second = Rollout(Adding(version=2))
    second.build()
    enter(5)
    gate = Gate()

    def read_late() -> tuple[bool, bool]:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            before = expected()
            gate()
            in_snapshot = found() == before
        return in_snapshot, found() == expected()

    with other_sessions() as start:
        reader = start(read_late)
        gate.wait_until_reached()
        second.promote(WHO)
        gate.open()
        assert reader.result(PATIENCE) == (False, True)

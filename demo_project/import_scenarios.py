"""Duplicates of a batch: a file that is imported more than once."""

from __future__ import annotations

import csv
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

from django.db import connections

from demo_project.results import Check, Exchange, Facts
from demo_project.stages import Stage

if TYPE_CHECKING:
    from demo_project.models import Fact
    from django_idempotency.writes import UpsertResult

FACTS = 50


def nightly_rerun(stage: Stage) -> Facts:
    """The nightly import starts twice at the same moment, and somebody runs it again in the morning."""
    from demo_project.facts import import_facts  # the names of the scenarios are wanted without models, too

    with tempfile.TemporaryDirectory() as folder:
        file = _file_of(stage, Path(folder))
        together = Barrier(2)

        def start(_: int) -> UpsertResult[Fact]:
            together.wait()
            try:
                return import_facts(file)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as pool:
            results = [*pool.map(start, range(2)), import_facts(file)]
    stage.client.exchanges += [exchange for result in results for exchange in _exchanges(result)]
    last = results[-1].counts
    return stage.facts(
        Check(name="rows that were inserted", expected=FACTS, measured=sum(len(each.inserted) for each in results)),
        Check(name="rows that were updated", expected=0, measured=sum(len(each.updated) for each in results)),
        Check(name="rows that the last run left alone", expected=FACTS, measured=last["unchanged"]),
        rows=FACTS,
    )


def _file_of(stage: Stage, folder: Path) -> Path:
    from demo_project.facts import COLUMNS

    file = folder / "facts.csv"
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(COLUMNS)
        writer.writerows([f"{stage.user_id}-{number:03}", 100 * number, "sold"] for number in range(FACTS))
    return file


def _exchanges(result: UpsertResult[Fact]) -> list[Exchange]:
    """Tell of each row of a run as if it had been a request: written, or found as it was."""
    written = [(fact, False) for fact in (*result.inserted, *result.updated)]
    found = [(fact, True) for fact in result.unchanged]
    return [
        Exchange(key=fact.biz_key, status=200, is_replay=is_replay, body=json.dumps({"id": fact.biz_key}).encode())
        for fact, is_replay in (*written, *found)
    ]

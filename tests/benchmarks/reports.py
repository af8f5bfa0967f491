"""What a benchmark found: tables to read, JSON to keep."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.load import wrk_version
from tests.benchmarks.ratios import Figure
from tests.benchmarks.runs import Run, problems

_PACKAGES = ("Django", "djangorestframework", "psycopg", "gunicorn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The runs of a benchmark in their order, the figures drawn from them, and further facts by name."""

    benchmark: str
    runs: Sequence[Run]
    figures: Sequence[Figure]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What makes the report invalid."""
        return problems(self.runs)

    @property
    def is_good(self) -> bool:
        """Tell whether every run is valid and every goal is met."""
        return not self.problems and not any(figure.is_missed for figure in self.figures)

    def show(self, console: Console) -> None:
        """Print tables."""
        console.print(*([self._runs_table()] if self.runs else []), self._figures_table())
        for name, fact in self.facts.items():
            words = ", ".join(f"{name} {value}" for name, value in fact.items()) if isinstance(fact, dict) else fact
            console.print(f"{name}: {words}")
        for problem in self.problems:
            console.print(f"[red]invalid run[/] {problem}")

    def save(self, path: Path, environment: dict[str, Any]) -> None:
        """Write everything as JSON."""
        figures = [{**asdict(figure), "missed": figure.is_missed} for figure in self.figures]
        runs = [{**asdict(run), "rate": run.rate} for run in self.runs]
        content = {"benchmark": self.benchmark, **environment, **self.facts, "figures": figures, "runs": runs}
        path.write_text(json.dumps(content, indent=1) + "\n")

    def _runs_table(self) -> Table:
        columns = ("runs", "requests/s", "p50 ms", "p99 ms", "service CPU ms", "database CPU ms", "failures")
        table = _table(f"{self.benchmark}: medians of the runs, CPU per request", columns)
        for target in dict.fromkeys(run.target for run in self.runs):
            table.add_row(target, *_medians([run for run in self.runs if run.target == target]))
        return table

    def _figures_table(self) -> Table:
        table = _table(f"{self.benchmark}: median [range]", ("figure", "goal", ""))
        for figure in self.figures:
            verdict = "[red]missed[/]" if figure.is_missed else "met"
            table.add_row(figure.name, str(figure.spread), str(figure.goal or ""), verdict if figure.goal else "")
        return table


def environment(postgresql: str) -> dict[str, Any]:
    """Return the versions and the machine that figures depend on."""
    versions = {name: version(name) for name in _PACKAGES}
    versions |= {"python": platform.python_version(), "postgresql": postgresql, "wrk": wrk_version()}
    return {"versions": versions, "cpus": os.cpu_count()}


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _medians(runs: Sequence[Run]) -> list[str]:
    database = [run.database_cpu_ms for run in runs if run.database_cpu_ms is not None]
    return [
        str(len(runs)),
        f"{median(run.rate for run in runs):.0f}",
        f"{median(run.p50_ms for run in runs):.1f}",
        f"{median(run.p99_ms for run in runs):.1f}",
        f"{median(run.service_cpu_ms for run in runs):.2f}",
        f"{median(database):.2f}" if database else "–",
        str(sum(run.failures for run in runs)),
    ]

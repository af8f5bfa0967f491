"""What a run of the scenarios came to: as a table, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo_project.results import Facts

_COLUMNS = {
    "requests sent": "sent",
    "executed": "executed",
    "replayed": "replayed",
    "refused": "refused",
    "failed": "failed",
    "rows written": "rows",
}
_WIDTH = 104


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of all scenarios on one database."""

    database: str
    results: Sequence[Facts]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every verdict does."""
        return all(result.holds for result in self.results)

    def print_table(self, stream: IO[str]) -> None:
        """Print one line a scenario, and below them what does not hold."""
        console = Console(file=stream, width=None if stream.isatty() else _WIDTH)
        console.print(self._table())
        for result in self.results:
            for failure in result.failures:
                console.print(f"[bold red]FAIL[/] {result.scenario}: {escape(failure)}", soft_wrap=True)

    def _table(self) -> Table:
        table = Table(
            title=f"Duplicates on {self.database}, {self.seconds:.1f} s",
            caption="executed, replayed, refused: as the clients were told; failed: lost replies, and errors asked for",
        )
        table.add_column("scenario", no_wrap=True)
        for title in _COLUMNS:
            table.add_column(title, justify="right")
        table.add_column("verdict")
        for result in self.results:
            values = result.as_dict()
            verdict = "[green]pass[/]" if result.holds else "[bold red]FAIL[/]"
            table.add_row(result.scenario, *(str(values[name]) for name in _COLUMNS.values()), verdict)
        return table

    def to_json(self) -> str:
        """Return one JSON object."""
        facts = {
            "database": self.database,
            "passed": self.holds,
            "seconds": round(self.seconds, 3),
            "scenarios": [result.as_dict() for result in self.results],
        }
        return json.dumps(facts, indent=2)

"""What all benchmarks stand on: their options, a server with databases, a folder, and one seed for all chance."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from demo_project.servers import postgresql_url
from tests.benchmarks.databases import Databases, databases
from tests.benchmarks.services import Service, service

T = TypeVar("T")
_LOG_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for. ``rounds`` and ``records`` are None where the benchmark is to choose."""

    rounds: int | None
    seconds: int
    workers: int
    threads: int
    records: int | None
    redis: bool
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The place of one benchmark; ``console`` is where progress is told."""

    options: Options
    databases: Databases
    folder: Path
    console: Console
    chance: random.Random = field(repr=False)

    @property
    def seconds(self) -> int:
        """How long one run takes."""
        return self.options.seconds

    def rounds(self, default: int = 5) -> Iterable[int]:
        """Count the rounds, and say how far they are."""
        return track(range(self.options.rounds or default), "rounds", console=self.console)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return items in a random order, the same for the same seed."""
        return self.chance.sample(items, len(items))

    def say(self, what: str) -> None:
        """Tell what takes its time now."""
        self.console.print(what, markup=False, highlight=False)

    def service(self, database_url: str) -> AbstractContextManager[Service]:
        """Start the measured service on a database."""
        return service(
            database_url,
            token=self.databases.token,
            workers=self.options.workers,
            threads=self.options.threads,
            folder=self.folder,
        )

    def tell_log(self) -> None:
        """Repeat the end of what gunicorn and the views have said, which is nothing where all went well."""
        path = self.folder / "gunicorn.log"
        if path.exists():
            self.say(path.read_text(errors="replace")[-_LOG_CHARACTERS:])


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Set up a bench and clean up behind it."""
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="django-idempotency-benchmark-") as folder,
        databases(postgresql_url()) as made,
    ):
        place = Bench(
            options=options,
            databases=made,
            folder=Path(folder),
            console=console,
            chance=random.Random(options.seed),
        )
        try:
            yield place
        finally:
            place.tell_log()

"""``python -m tests.benchmarks.objects``: what storing content by its digest costs beside a plain save.

Each put, of new content and of content that is there, is compared with ``FileSystemStorage.save`` of the same bytes in
the same folder, right before and after it, and a new one with that save and an fsync, which the plain storage does not
do. Ratios of times: 1 is as fast. Needs no server.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import django
from django.conf import settings
from django.core.files.base import ContentFile
from rich.console import Console
from rich.table import Table

from tests.benchmarks.ratios import Spread, bracketed

SIZES = (10_000, 1_000_000, 20_000_000)


def main(arguments: list[str]) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.objects")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary directory)")
    asked = parser.parse_args(arguments)
    settings.configure()
    django.setup()
    table = Table(title="time in relation to FileSystemStorage.save, median [range]")
    for title in ("bytes", "put new / save", "put duplicate / save", "put new / save and fsync"):
        table.add_column(title, justify="right")
    with tempfile.TemporaryDirectory(prefix="django-idempotency-objects-", dir=asked.folder) as folder:
        for size in SIZES:
            table.add_row(str(size), *(str(spread) for spread in _measure(folder, size, asked.rounds)))
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    return 0


def _measure(folder: str, size: int, rounds: int) -> list[Spread]:
    from django.core.files.storage import FileSystemStorage

    from django_idempotency.objects import ContentAddressedStorage

    plain = FileSystemStorage(location=os.path.join(folder, "plain"))
    backend = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": f"{folder}/objects"}}
    objects = ContentAddressedStorage(storage=backend)

    def save(data: bytes) -> None:
        plain.save(f"{time.monotonic_ns()}", ContentFile(data))

    def save_durably(data: bytes) -> None:
        name = plain.save(f"{time.monotonic_ns()}", ContentFile(data))
        with open(plain.path(name), "rb") as file:
            os.fsync(file.fileno())

    def put(data: bytes, created: bool) -> None:
        assert objects.put(ContentFile(data)).created is created

    ratios: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        data = os.urandom(size)
        plain_first = _time(lambda data=data: save(data))
        new = _time(lambda data=data: put(data, True))
        plain_second = _time(lambda data=data: save(data))
        again = _time(lambda data=data: put(data, False))
        plain_third = _time(lambda data=data: save(data))
        durable = _time(lambda data=data: save_durably(data))
        ratios[0].append(bracketed(new, plain_first, plain_second))
        ratios[1].append(bracketed(again, plain_second, plain_third))
        ratios[2].append(bracketed(new, durable))
    return [Spread.of(values) for values in ratios]


def _time(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

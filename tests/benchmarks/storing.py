"""``python -m tests.benchmarks.storing ROUNDS`` puts and saves content, round by round, in its temporary folder.

It prints one JSON object: for each kind of content the seconds of each round, by what was done with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import django
from django.conf import settings
from django.core.files.base import ContentFile, File

SIZES = {"10 kB": 10_000, "1 MB": 1_000_000, "20 MB": 20_000_000}
BUCKET_SIZES = {"S3, 10 kB": 10_000, "S3, 5 MB": 5_000_000}
Step = Callable[[File], Any]


class Way(NamedTuple):
    """What is measured, a save of the same bytes to compare it with, and what is done before with no clock running."""

    action: Step
    reference: Step
    prepare: Callable[[bytes], None] = lambda data: None


Ways = dict[str, Way]


def main(rounds: int) -> None:
    """Measure, each with a save before and after it."""
    settings.configure()
    django.setup()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = ways_in_files(Path(folder))
        seconds = {name: measure(rounds, size, files) for name, size in SIZES.items()}
        seconds["20 MB file"] = measure(rounds, SIZES["20 MB"], files, path=Path(folder) / "content")
        bucket = stack.enter_context(ways_in_a_bucket())
        seconds |= {name: measure(rounds, size, bucket) for name, size in BUCKET_SIZES.items()}
    print(json.dumps(seconds))


def measure(rounds: int, size: int, ways: Ways, *, path: Path | None = None) -> dict[str, list[float]]:
    """Return the seconds of each round: of a reference the mean of those before and after what is compared with it."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        data, taken = os.urandom(size), defaultdict[str, list[float]](list)
        for name, way in ways.items():
            reference = way.reference.__name__.replace("_", " ")
            way.prepare(data)
            for each, step in ((reference, way.reference), (name, way.action), (reference, way.reference)):
                with content(data, path) as file:
                    started = time.perf_counter()
                    step(file)
                    taken[each].append(time.perf_counter() - started)
        for name, values in taken.items():
            seconds[name].append(fmean(values))
    return seconds


@contextmanager
def content(data: bytes, path: Path | None) -> Iterator[File]:
    """Yield content in memory, or in a file."""
    if path is None:
        yield ContentFile(data)
        return
    path.write_bytes(data)
    with path.open("rb") as file:
        yield File(file)


def ways_in_files(folder: Path) -> Ways:
    """Return what is measured in a file system."""
    from django.core.files.storage import FileSystemStorage

    plain = FileSystemStorage(location=folder / "plain")
    durable, fast, empty = (_objects(folder / name, fsync=name != "fast") for name in ("durable", "fast", "empty"))

    def save(file: File) -> str:
        return plain.save(f"{time.monotonic_ns()}", file)

    def save_and_fsync(file: File) -> None:
        _sync(plain.path(save(file)))

    def save_and_fsync_of_file_and_folder(file: File) -> None:
        save_and_fsync(file)
        _sync(plain.location)

    return {
        "new, no fsync": Way(lambda file: _put(fast, file, created=True), save, partial(_make_folder, fast)),
        "new": Way(lambda file: _put(durable, file, created=True), save_and_fsync, partial(_make_folder, durable)),
        "known": Way(lambda file: _put(durable, file, created=False), save),
        "new, with its folders": Way(lambda file: _put(empty, file, created=True), save_and_fsync_of_file_and_folder),
    }


@contextmanager
def ways_in_a_bucket() -> Iterator[Ways]:
    """Yield what is measured in a bucket."""
    from storages.backends.s3 import S3Storage

    from tests.s3_servers import started_s3

    with started_s3() as s3:
        plain, objects = S3Storage(**s3.options(location="plain")), s3.storage(prefix="objects")

        def save(file: File) -> None:
            plain.save(f"{time.monotonic_ns()}", file)

        yield {
            "new": Way(lambda file: _put(objects, file, created=True), save),
            "known": Way(lambda file: _put(objects, file, created=False), save),
        }


def _objects(folder: Path, *, fsync: bool) -> Any:
    from django_idempotency.objects import ContentAddressedStorage

    below = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(folder)}}
    return ContentAddressedStorage(storage=below, fsync=fsync)


def _make_folder(objects: Any, data: bytes) -> None:
    """Make the folder that the content will be in: a storage that has been in use has it."""
    name = objects.naming.name(hashlib.sha256(data).hexdigest())
    folder = Path(objects.writer.storage.path(name)).parent
    folder.mkdir(parents=True, exist_ok=True)
    _sync(folder.parent)


def _put(objects: Any, file: File, *, created: bool) -> None:
    assert objects.put(file).created is created


def _sync(path: str | os.PathLike[str]) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    main(int(sys.argv[1]))

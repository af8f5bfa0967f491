"""``python -m tests.benchmarks.purging`` deletes expired records of the database that DATABASE_URL names.

It says when it is ready, waits for a line, and prints in the end one JSON object with the milliseconds of each batch.
``--pause`` is slept between two batches, in seconds, and not part of their time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator

import django


def main() -> None:
    """Purge until nothing is left to purge."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.purging")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0)
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    django.setup()

    from django_idempotency.stores import get_store

    get_store().count_expired()  # connects
    print("ready", flush=True)
    sys.stdin.readline()
    batches = list(_timed(get_store().purge(batch_size=options.batch_size), options.pause))
    sizes, milliseconds = zip(*batches, strict=True) if batches else ((), ())
    print(json.dumps({"deleted": sum(sizes), "batch_ms": [round(value, 2) for value in milliseconds]}))


def _timed(batches: Iterator[int], pause: float) -> Iterator[tuple[int, float]]:
    while True:
        started = time.perf_counter()
        size = next(batches, None)
        if size is None:
            return
        yield size, 1000 * (time.perf_counter() - started)
        time.sleep(pause)


if __name__ == "__main__":
    main()

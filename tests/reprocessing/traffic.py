"""Traffic in processes of its own: ``python -m tests.reprocessing.traffic read|write NUMBER``, until its input ends.

Prints one JSON object in the end: how often it has read or written, what went wrong, and the longest time in seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from threading import Event, Thread

import django

# As people do, and so that a machine with two processors is not busy with nothing else.
PAUSES = {"read": 0.01, "write": 0.03}


def main(what: str, number: int) -> None:
    """Read or write until told to end."""
    django.setup()
    from django.db import DatabaseError

    done, step = Event(), _read if what == "read" else _writer(number)
    times, wrong, errors, longest = 0, 0, list[str](), 0.0
    step(times)
    print("ready", flush=True)
    Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    while not done.wait(PAUSES[what]):
        started = time.perf_counter()
        try:
            wrong += not step(times + 1)
        except DatabaseError as error:
            errors.append(repr(error))
        times += 1
        longest = max(longest, time.perf_counter() - started)
    print(json.dumps({"times": times, "wrong": wrong, "errors": errors, "longest": longest}), flush=True)


def _read(times: int) -> bool:
    """Tell whether the totals are what the entries come to, both as one statement sees them."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT coalesce(sum(amount), 0) FROM tests_total), "
            "(SELECT coalesce(sum(entries), 0) FROM tests_total), "
            "coalesce(sum(amount), 0), count(*) FROM tests_entry"
        )
        amount, entries, expected_amount, expected_entries = cursor.fetchone()
    return bool((amount, entries) == (expected_amount, expected_entries))


def _writer(number: int) -> Callable[[int], bool]:
    from tests.reprocessing.projections import write_once

    def write(times: int) -> bool:
        write_once(number, times)
        return True

    return write


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

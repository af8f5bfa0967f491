"""``python -m tests.benchmarks.running`` calls jobs on the database that DATABASE_URL names, round by round.

It prints one JSON object: the seconds of each round for the bare function, new keys, and replays.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

import django


def main() -> None:
    """Measure, each round in the same order."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.running")
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    django.setup()
    print(json.dumps(measure(options.calls, options.rounds)))


def measure(calls: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round by what was called."""
    from django.db import transaction

    from django_idempotency.jobs import run_once
    from tests.models import Payment

    def pay(reference: str) -> int:
        return Payment.objects.create(reference=reference, amount=1).pk

    def bare(reference: str) -> int:
        with transaction.atomic():
            return pay(reference)

    pay_once = run_once(key="{reference}")(pay)
    seconds: dict[str, list[float]] = {}
    before = Payment.objects.count()
    for number in range(-1, rounds):
        works: dict[str, Callable[[str], int]] = {"bare": bare, "executed": pay_once, "replayed": pay_once}
        for name, work in works.items():
            started = time.perf_counter()
            for call in range(calls):
                work(f"{number} {call}")
            if number >= 0:  # the first round warms up
                seconds.setdefault(name, []).append(time.perf_counter() - started)
    assert Payment.objects.count() - before == 2 * calls * (rounds + 1)
    return seconds


if __name__ == "__main__":
    main()

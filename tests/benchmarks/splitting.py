"""``python -m tests.benchmarks.splitting`` splits payloads on the database that DATABASE_URL names, round by round.

It prints one JSON object: the seconds of each round for the plain query, the duplicates, the new ones, and the digests.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django


def main() -> None:
    """Measure, with the reference before and after each of the rest."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.splitting")
    parser.add_argument("--payloads", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    django.setup()
    print(json.dumps(measure(options.payloads, options.rounds)))


def measure(total: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round by what was done in it."""
    from django.db import connection, transaction

    from django_idempotency.writes import DedupWindow
    from django_idempotency.writes.clocks import BATCH

    window = DedupWindow("bank-feed", ttl=timedelta(days=1), fields=("account", "amount", "date", "text"))
    known, seconds = payloads("known", total), dict[str, list[float]]()
    with transaction.atomic():
        assert len(window.split(known).fresh) == total
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE idempotency_dedupentry")
        cursor.execute("SELECT digest FROM idempotency_dedupentry ORDER BY digest")
        digests = [bytes(digest) for (digest,) in cursor.fetchall()]

    def query(columns: str) -> None:
        sql = f"SELECT {columns} FROM idempotency_dedupentry WHERE digest = ANY(%s)"
        for start in range(0, total, BATCH):
            with connection.cursor() as cursor:
                cursor.execute(sql, [digests[start : start + BATCH]])
                assert len(cursor.fetchall()) == len(digests[start : start + BATCH])

    def duplicates() -> None:
        assert len(window.split(known).duplicates) == total

    for number in range(rounds):
        unknown = payloads(f"{number}", total)

        def new(unknown: list[dict[str, Any]] = unknown) -> None:
            assert len(window.split(unknown).fresh) == total

        def keys() -> None:
            window._keys(known, [1] * total)

        works = {
            "query": lambda: query("digest, expires_at"),
            "query of the index alone": lambda: query("digest"),
            "duplicates": duplicates,
            "new": new,
            "digests alone": keys,
        }
        for name, work in works.items():
            with transaction.atomic():
                seconds.setdefault(name, []).append(timed(work))
                transaction.set_rollback(True)
    return seconds


def payloads(kind: str, total: int) -> list[dict[str, Any]]:
    """Return lines as a bank delivers them."""
    return [
        {"account": f"DE89 3704 {number % 100:04}", "amount": number, "date": "2026-03-01", "text": f"{kind} {number}"}
        for number in range(total)
    ]


def timed(work: Callable[[], None]) -> float:
    """Return how many seconds something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

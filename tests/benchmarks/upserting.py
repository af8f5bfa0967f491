"""``python -m tests.benchmarks.upserting``: upserts beside what they replace, on the database of DATABASE_URL.

Prints JSON: the seconds and the bytes of WAL of each way to write the same rows, by round. A process of its own, as
Django is set up for one database.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import django

Write = Callable[[list[Any]], Any]
START = datetime(2025, 1, 1, tzinfo=UTC)


def main(count: int, rounds: int, seed: int) -> None:
    """Measure every way in every round, in a random order."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    django.setup()
    chance = Random(seed)
    ways = _ways()
    for name in chance.sample(sorted(ways), len(ways)):  # a warm-up
        _measure(*ways[name], rows=_rows(50))
    results: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in chance.sample(sorted(ways), len(ways)):
            results[name].append(_measure(*ways[name], rows=_rows(count)))
    print(json.dumps(results))


def _rows(count: int) -> list[dict[str, Any]]:
    """Return what a file of facts would have, in an order that is not that of the keys."""
    numbers = Random(1).sample(range(count), count)
    return [
        {
            "biz_key": f"invoice-2025-{number:07d}",
            "amount": number % 10_000,
            "note": f"delivered to depot {number % 97}",
            "booked_at": START + timedelta(seconds=number),
        }
        for number in numbers
    ]


def _ways() -> dict[str, tuple[Any, Write]]:
    import pgbulk

    from django_idempotency.writes import upsert
    from tests.writes.models import Booking, PlainBooking

    key, payload = ["biz_key"], ["amount", "note", "booked_at"]

    def hashed(rows: list[Any]) -> Any:
        return Booking.objects.upsert([Booking(**row) for row in rows])

    def by_columns(rows: list[Any]) -> Any:
        return upsert(PlainBooking, [PlainBooking(**row) for row in rows], key=key)

    def bulk_create(model: Any, rows: list[Any]) -> Any:
        objs = [model(**row) for row in rows]
        return model.objects.bulk_create(objs, update_conflicts=True, unique_fields=key, update_fields=payload)

    def bulk(model: Any, rows: list[Any]) -> Any:
        objs = [model(**row) for row in rows]
        return pgbulk.upsert(model, objs, key, payload, returning=True, ignore_unchanged=True)

    return {
        "upsert, hash": (Booking, hashed),
        "bulk_create, hash": (Booking, partial(bulk_create, Booking)),
        "pgbulk, hash": (Booking, partial(bulk, Booking)),
        "upsert, columns": (PlainBooking, by_columns),
        "bulk_create, columns": (PlainBooking, partial(bulk_create, PlainBooking)),
        "pgbulk, columns": (PlainBooking, partial(bulk, PlainBooking)),
    }


def _measure(model: Any, write: Write, rows: list[Any]) -> dict[str, float]:
    """Write rows that are new, the same rows again, and again with another amount in every hundredth."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f'TRUNCATE "{model._meta.db_table}"')
    figures: dict[str, float] = {}
    for phase in ("inserting", "unchanged", "changed"):
        if phase == "changed":
            rows = [{**row, "amount": row["amount"] + (number % 100 == 0)} for number, row in enumerate(rows)]
        with connection.cursor() as cursor:
            # What is written first after a checkpoint is written twice; each way begins with the same debt.
            cursor.execute("CHECKPOINT")
            cursor.execute(f'VACUUM ANALYZE "{model._meta.db_table}"')
        before, started = _wal(), time.perf_counter()
        write(rows)
        figures[f"{phase}, seconds"] = time.perf_counter() - started
        figures[f"{phase}, WAL"] = _wal() - before
    assert model.objects.count() == len(rows)
    return figures


def _wal() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
        return int(cursor.fetchone()[0])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Rows that are committed in another order than they were numbered are lost by their numbers, not by snapshots."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from django_idempotency.reprocessing import CurrentTransaction, QuerySetSource, Rollout, Watermark
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions
from tests.reprocessing.models import Entry
from tests.reprocessing.projections import Adding, BySnapshot, enter, expected, found

postgresql = pytest.mark.postgresql


def enter_and_wait(gate: Gate) -> None:
    with transaction.atomic():
        Entry.objects.create(account="late", amount=5)
        gate()


def numbers() -> list[int]:
    """Read what is new by the highest number that can be seen, as one should not."""
    mark = Watermark("by number", type=int)
    last = Entry.objects.order_by("-id").values_list("id", flat=True).first() or 0
    with mark.window(upto=last + 1) as window:
        return list(Entry.objects.filter(id__gte=window.low or 0, id__lt=window.high).values_list("id", flat=True))


def snapshots() -> list[int]:
    """Read what is new by the transactions that have ended."""
    with Watermark("by snapshot", strategy="xmin").window() as window:
        rows = Entry.objects.filter(transaction__lt=window.high)
        rows = rows.filter(transaction__gte=window.low) if window.low is not None else rows
        return list(rows.order_by("transaction", "id").values_list("id", flat=True))


@postgresql
def test_what_is_committed_late_is_read_later_by_snapshots_and_never_by_numbers() -> None:
    gate = Gate()
    with other_sessions() as start:
        late = start(enter_and_wait, gate)
        gate.wait_until_reached()
        early = Entry.objects.create(account="early", amount=1)
        by_number, by_snapshot = numbers(), snapshots()
        gate.open()
        late.result(PATIENCE)
    by_number, by_snapshot = by_number + numbers(), by_snapshot + snapshots()
    lost = Entry.objects.get(account="late")
    assert lost.pk < early.pk
    assert by_number == [early.pk]  # the negative control: the late one is lost for ever
    assert sorted(by_snapshot) == [lost.pk, early.pk]


@postgresql
@pytest.mark.parametrize("runs", [1, pytest.param(20, marks=pytest.mark.campaign)])
def test_many_writers_that_commit_in_any_order_are_read_once_each(runs: int) -> None:
    """``python -m pytest -m campaign tests/reprocessing/test_snapshots.py`` does so twenty times."""
    import random
    import time

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(25):
            with transaction.atomic():
                Entry.objects.create(account=f"a{seed}", amount=1)
                time.sleep(chance.random() * 0.01)

    for _ in range(runs):
        read: list[int] = []
        with other_sessions() as start:
            writers = [start(write, seed) for seed in range(6)]
            while not all(writer.done() for writer in writers):
                read += snapshots()
            for writer in writers:
                writer.result(PATIENCE)
        read += snapshots()
        assert len(read) == len(set(read)) == 150
        assert sorted(read) == sorted(Entry.objects.values_list("id", flat=True))
        Entry.objects.all().delete()


@postgresql
def test_a_build_that_runs_beside_a_late_writer_counts_it_with_the_next_catch_up() -> None:
    gate = Gate()
    with other_sessions() as start:
        late = start(enter_and_wait, gate)
        gate.wait_until_reached()
        enter(10)
        by_snapshot, by_number = Rollout(BySnapshot(version=2)), Rollout(Adding(version=1))
        by_snapshot.build()
        by_number.build()
        gate.open()
        late.result(PATIENCE)
    by_number.promote()
    assert found() != expected()  # the negative control
    by_snapshot.promote()
    assert found() == expected()


@postgresql
def test_a_saved_row_gets_the_transaction_that_saved_it() -> None:
    entry = Entry.objects.create(account="a", amount=1)
    inserted = entry.transaction
    entry.amount = 2
    entry.save()
    entry.refresh_from_db()
    assert entry.transaction > inserted > 0
    with transaction.atomic(), connection.cursor() as cursor:
        Entry.objects.update(transaction=CurrentTransaction())
        cursor.execute("SELECT pg_current_xact_id()::text")
        assert str(Entry.objects.get().transaction) == cursor.fetchone()[0]


@postgresql
def test_the_lag_of_a_snapshot_is_how_many_transactions_it_is_behind() -> None:
    snapshots()
    mark = Watermark("by snapshot", strategy="xmin")
    before: Any = mark.lag()
    for _ in range(3):
        Entry.objects.create(account="a", amount=1)
    assert mark.lag() == before + 3


@postgresql
@pytest.mark.parametrize("options", [{"lag": 5}, {"upto": 5}])
def test_a_snapshot_takes_no_bounds(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="neither"), Watermark("x", strategy="xmin").window(**options):
        pass


@postgresql
def test_all_rows_of_one_transaction_are_read_in_pages() -> None:
    enter(20)
    batches = QuerySetSource(Entry.objects.all(), by=("transaction", "id")).batches(
        None, size=6, is_first=True, is_last=False
    )
    assert [len(batch.rows) for batch in batches] == [6, 6, 6, 2]


@pytest.mark.sqlite
def test_the_column_is_there_on_sqlite_and_says_nothing() -> None:
    entry = Entry.objects.create(account="a", amount=1)
    entry.save()
    entry.refresh_from_db()
    assert entry.transaction == 0

"""Swaps under readers and writers that do not know of them (PostgreSQL; the readers on SQLite, too).

``python -m pytest -m campaign tests/reprocessing/test_traffic.py`` swaps 200 times with each strategy, and promotes 20
times beneath writers; the default run does a few of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from django_idempotency.reprocessing import Patience, Rollout, SwapTimedOut
from tests.campaigns.harness import Report, eventually
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions, seen_from_outside
from tests.reprocessing.models import Entry
from tests.reprocessing.projections import (
    Adding,
    AddingByName,
    WrittenThrough,
    enter,
    expected,
    found,
    write_once,
)
from tests.reprocessing.test_rollouts import WHO, promoted, states

STRATEGIES = [Adding, AddingByName]
SHORT = Patience(lock=timedelta(milliseconds=300), attempts=2)


def read_until(done: Event, model: Any) -> tuple[int, list[str], set[int]]:
    """Read as long as it takes; return how often, what went wrong, and the sums that were seen."""
    reads, errors, seen = 0, list[str](), set[int]()
    while not done.is_set():
        try:
            seen.add(sum(amount for amount, _ in found(model).values()))
        except DatabaseError as error:
            errors.append(repr(error))
        reads += 1
    return reads, errors, seen


@pytest.mark.parametrize("swaps", [10, pytest.param(200, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("kind", STRATEGIES)
def test_readers_never_fail_and_see_one_version_or_the_other(kind: Any, swaps: int) -> None:
    enter(30)
    promoted(kind)
    first = sum(amount for amount, _ in found(kind.model).values())
    Entry.objects.update(amount=2)
    second, done = promoted(kind, 2), Event()
    with Report(campaign=f"swap by {kind.strategy}") as report, other_sessions() as start:
        readers = [start(read_until, done, kind.model) for _ in range(3)]
        try:
            for number in range(swaps):
                second.promote(WHO) if number % 2 else second.roll_back(WHO)
        finally:
            done.set()
        results = [reader.result(PATIENCE) for reader in readers]
        errors = [error for _, found_errors, _ in results for error in found_errors]
        report.counts = {"swaps": swaps, "reads": sum(reads for reads, _, _ in results), "errors": len(errors)}
    assert errors == []
    assert all(reads > 0 for reads, _, _ in results)
    assert set().union(*(seen for _, _, seen in results)) == {first, 60}


@pytest.mark.postgresql
@pytest.mark.parametrize("kind", STRATEGIES)
def test_readers_that_write_afterwards_never_fail_either(kind: Any) -> None:
    """A lock that grows would let them die of a deadlock."""
    enter(5)
    promoted(kind)
    second, done = promoted(kind, 2), Event()

    def read_and_write() -> int:
        times = 0
        while not done.is_set():
            with transaction.atomic():
                total = kind.model.objects.get(account="a0")
                kind.model.objects.filter(account="a0").update(entries=total.entries)
            times += 1
        return times

    with other_sessions() as start:
        writers = [start(read_and_write) for _ in range(3)]
        try:
            for number in range(20):
                second.promote(WHO) if number % 2 else second.roll_back(WHO)
        finally:
            done.set()
        assert all(writer.result(PATIENCE) > 0 for writer in writers)


@contextmanager
def long_reader(model: Any) -> Iterator[Callable[[], None]]:
    """A transaction that has read and does not end until it is told to."""
    gate = Gate()

    def read() -> None:
        with transaction.atomic():
            list(model.objects.all())
            gate()

    with other_sessions() as start:
        reader = start(read)
        gate.wait_until_reached()
        try:
            yield gate.open
        finally:
            gate.open()
            reader.result(PATIENCE)


@pytest.mark.postgresql
@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_long_reader_makes_the_swap_fail_cleanly_and_stalls_others_for_no_longer_than_the_bound(kind: Any) -> None:
    enter(20)
    promoted(kind)
    before = found(kind.model)
    Entry.objects.update(amount=1)
    second = Rollout(kind(version=2))
    second.build()
    done = Event()
    stalls: list[float] = []

    def read_and_measure() -> None:
        while not done.is_set():
            started = time.monotonic()
            found(kind.model)
            stalls.append(time.monotonic() - started)

    with long_reader(kind.model), other_sessions() as start:
        reader = start(read_and_measure)
        started = time.monotonic()
        try:
            with pytest.raises(SwapTimedOut, match=r"left as it was.*pid \d+"):
                second.promote(WHO, SHORT)
        finally:
            done.set()
        took = time.monotonic() - started
        reader.result(PATIENCE)
        assert states() == {1: "live", 2: "built"}
        assert seen_from_outside(lambda: found(kind.model)) == before
    # Each of the two attempts waits 0.3 s; beside them there is a busy machine.
    assert 0.25 < max(stalls) < 2
    assert took < 10
    second.promote(WHO)
    assert found(kind.model) == expected()


@pytest.mark.postgresql
@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_swap_is_tried_again_until_the_long_reader_has_ended(kind: Any) -> None:
    enter(20)
    promoted(kind)
    second = Rollout(kind(version=2))
    second.build()
    with long_reader(kind.model) as end, other_sessions() as start:
        swap = start(second.promote, WHO, Patience(attempts=50))
        eventually(_somebody_waits, "the swap waits for its lock")
        end()
        swap.result(PATIENCE)
    assert states() == {1: "retired", 2: "live"}


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'")
        return bool(cursor.fetchone()[0])


@pytest.mark.postgresql
def test_a_last_catch_up_that_takes_too_long_is_rolled_back() -> None:
    class Slow(WrittenThrough, register=False):
        batch_size = 1
        is_slow = False

        def apply(self, into: Any, rows: Any) -> None:
            super().apply(into, rows)
            if self.is_slow:
                time.sleep(0.05)

    enter(5)
    rollout = Rollout(Slow(version=1))
    rollout.build()
    Slow.is_slow = True
    enter(5)
    rollout._feed = lambda progress=None: 0  # type: ignore[method-assign]
    with pytest.raises(SwapTimedOut, match="not through"):
        rollout.promote(WHO, Patience(hold=timedelta(milliseconds=60), attempts=1))
    assert states() == {1: "built"}
    Slow.is_slow = False
    rollout.promote(WHO)
    assert found() == expected()


def write_through(done: Event, number: int) -> int:
    """Write until it is done; return how often."""
    written = 0
    while not done.wait(0.002):  # as people do, and so that a busy machine is not kept busier
        write_once(number, written)
        written += 1
    return written


@pytest.mark.postgresql
@pytest.mark.parametrize("promotions", [3, pytest.param(20, marks=pytest.mark.campaign)])
def test_promotions_beneath_writers_lose_and_repeat_nothing(promotions: int) -> None:
    enter(50)
    promoted(WrittenThrough)
    done = Event()
    with Report(campaign="promotions beneath writers") as report, other_sessions() as start:
        writers = [start(write_through, done, number) for number in range(4)]
        try:
            for version in range(2, promotions + 2):
                rollout = Rollout(WrittenThrough(version=version))
                rollout.build()
                before = Entry.objects.count()
                eventually(lambda n=before: Entry.objects.count() > n + 20, "traffic between build and promotion")
                rollout.promote(WHO, Patience(attempts=50))
        finally:
            done.set()
        written = sum(writer.result(PATIENCE) for writer in writers)
        report.counts = {"promotions": promotions, "transactions": written}
    assert Entry.objects.count() == written + 50
    assert found() == expected()
    assert states()[promotions + 1] == "live"

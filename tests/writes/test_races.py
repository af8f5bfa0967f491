"""Batches that meet: every interleaving ends as some order of them would, and nobody deadlocks.

``python -m pytest -m campaign tests/writes/test_races.py`` runs batches in opposite orders against each other for five
minutes; the default run takes seconds. IDEMPOTENCY_SEED overrides the choices.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_idempotency.writes import UpsertResult, runs, upsert
from tests.campaigns.harness import Report
from tests.campaigns.sessions import PATIENCE, Gate, connection_options, other_sessions
from tests.writes.models import Booking, Fact, Price

pytestmark = pytest.mark.django_db(transaction=True)
CONNECTIONS = 8
Batch = dict[str, int]
batches = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 2), min_size=1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
slowly = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_hashed(batch: Batch) -> UpsertResult[Any]:
    return Price.objects.upsert([Price(tenant=key, sku=1, amount=value) for key, value in batch.items()])


def write_columns(batch: Batch) -> UpsertResult[Any]:
    return upsert(Fact, [Fact(biz_key=key, amount=value) for key, value in batch.items()], key="biz_key")


def read_hashed() -> Batch:
    return {key: int(amount) for key, amount in Price.objects.values_list("tenant", "amount")}


def read_columns() -> Batch:
    return {key: amount or 0 for key, amount in Fact.objects.values_list("biz_key", "amount")}


@pytest.fixture(params=["hash", "hash, probed", "columns"])
def guard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "hash, probed":
        monkeypatch.setattr(runs, "_WORTH_PROBING", 1)
    return (write_columns, read_columns) if request.param == "columns" else (write_hashed, read_hashed)


def is_serial(state: Batch, batches: list[Batch]) -> bool:
    """Tell whether some order of the batches ends in this state: look for the last one, then for the one before it."""
    left, settled = [*batches], set[str]()
    while left:
        last = next((b for b in left if all(state.get(key) == b[key] for key in b.keys() - settled)), None)
        if last is None:
            return False
        left.remove(last)
        settled |= last.keys()
    return state.keys() == settled


def all_at_once(batches: list[Batch], write: Callable[[Batch], Any]) -> list[Any]:
    together = Barrier(len(batches))

    def run(batch: Batch) -> Any:
        together.wait(PATIENCE)
        return write(batch)

    with other_sessions() as start:
        return [future.result(PATIENCE) for future in [start(run, batch) for batch in batches]]


def empty() -> None:
    Price.objects.all().delete()
    Fact.objects.all().delete()


def test_the_judge_tells_serial_states_from_others() -> None:
    pair = [{"a": 1, "b": 1}, {"a": 2, "b": 2}]
    assert is_serial({"a": 1, "b": 1}, pair)
    assert is_serial({"a": 2, "b": 2}, pair)
    assert not is_serial({"a": 1, "b": 2}, pair)
    assert not is_serial({"a": 1}, pair)


@slowly
@given(given_batches=st.lists(batches, min_size=CONNECTIONS, max_size=CONNECTIONS))
def test_any_interleaving_ends_as_some_order_would_and_counts_add_up(guard: Any, given_batches: list[Batch]) -> None:
    empty()
    write, read = guard
    results = all_at_once(given_batches, write)
    keys = {key for batch in given_batches for key in batch}
    assert is_serial(read(), given_batches)
    assert [sum(result.counts.values()) for result in results] == [len(batch) for batch in given_batches]
    assert sum(result.counts["inserted"] for result in results) == len(keys)
    if write is write_hashed:
        updates = Counter(row.tenant for result in results for row in result.updated)
        assert dict(Price.objects.values_list("tenant", "revision")) == {key: 1 + updates[key] for key in keys}
        pks = dict(Price.objects.values_list("tenant", "pk"))
        rows = [row for result in results for row in (*result.inserted, *result.updated, *result.unchanged)]
        assert all(row.pk == pks[row.tenant] for row in rows)


def tuples_updated() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT sum(n_tup_upd) FROM pg_stat_user_tables WHERE relname IN ('tests_price', 'tests_fact')")
        return int(cursor.fetchone()[0])


@slowly
@given(
    batch=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), st.integers(0, 9)
    )
)
def test_a_batch_again_is_unchanged_and_updates_no_row(guard: Any, batch: Batch) -> None:
    write, read = guard
    first = write(batch)
    before = tuples_updated() if connection.vendor == "postgresql" else 0
    second = write(batch)
    assert second.counts == {"inserted": 0, "updated": 0, "unchanged": len(batch), "stale": 0}
    assert sum(first.counts.values()) == len(batch)
    assert batch.items() <= read().items()
    if connection.vendor == "postgresql":
        assert tuples_updated() == before


@pytest.mark.postgresql
def test_the_statistics_do_move_for_an_update() -> None:
    write_hashed({"a": 1})
    before = tuples_updated()
    write_hashed({"a": 2})
    assert tuples_updated() == before + 1


def test_an_unchanged_row_stays_as_it_is_until_the_commit(guard: Any) -> None:
    write, read = guard
    write({"a": 1})
    gate = Gate()

    def hold() -> None:
        with transaction.atomic():
            write({"a": 1})
            gate()

    with other_sessions() as start:
        holder = start(hold)
        gate.wait_until_reached()
        rival = start(write, {"a": 2})
        with pytest.raises(TimeoutError):
            rival.result(0.5)
        assert read() == {"a": 1}
        gate.open()
        holder.result(PATIENCE)
        assert rival.result(PATIENCE).counts["updated"] == 1
    assert read() == {"a": 2}


def test_who_meets_an_insert_that_is_rolled_back_inserts(guard: Any) -> None:
    write, read = guard
    gate = Gate()

    def give_up() -> None:
        with transaction.atomic():
            write({"a": 1})
            gate()
            transaction.set_rollback(True)

    with other_sessions() as start:
        loser = start(give_up)
        gate.wait_until_reached()
        rival = start(write, {"a": 2})
        gate.open()
        loser.result(PATIENCE)
        assert rival.result(PATIENCE).counts["inserted"] == 1
    assert read() == {"a": 2}


@pytest.mark.postgresql
@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
@pytest.mark.parametrize("is_there", [True, False])
def test_under_stricter_isolation_a_lost_race_is_an_error_and_nothing_is_half_done(
    guard: Any, level: str, is_there: bool
) -> None:
    from psycopg import IsolationLevel

    write, read = guard
    write({"b": 0} if is_there else {})
    with connection_options(isolation_level=IsolationLevel[level]):
        with pytest.raises(OperationalError, match="could not serialize"):
            lose_a_race(write, read)
        assert read() == {"b": 1}
        assert sum(write({"a": 2, "b": 2, "c": 2}).counts.values()) == 3


def lose_a_race(write: Callable[[Batch], Any], read: Callable[[], Batch]) -> None:
    with transaction.atomic():
        read()  # from now on, later commits are not seen
        with other_sessions() as start:
            start(write, {"b": 1}).result(PATIENCE)
        write({"a": 2, "b": 2, "c": 2})


@pytest.mark.parametrize("seconds", [3, pytest.param(300, marks=[pytest.mark.campaign, pytest.mark.timeout(600)])])
def test_batches_in_opposite_orders_do_not_deadlock(seconds: float) -> None:
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    together, ends = Barrier(CONNECTIONS), time.monotonic() + seconds
    done: Counter[str] = Counter()

    def run(number: int) -> None:
        chance = random.Random(seed * CONNECTIONS + number)
        together.wait(PATIENCE)
        while time.monotonic() < ends:
            keys = sorted(chance.sample(range(200), chance.randint(1, 120)), reverse=number % 2 == 0)
            value, size, is_hashed = chance.randint(0, 1), chance.randint(7, 90), chance.random() < 0.5
            done.update(write_some(keys, value=value, is_hashed=is_hashed, size=size))

    with Report(campaign="upserts in opposite orders", seed=seed) as report:
        with other_sessions() as start:
            runners = [start(partial(run, number)) for number in range(CONNECTIONS)]
            errors = [runner.exception(seconds + 2 * PATIENCE) for runner in runners]
        report.expect(errors == [None] * CONNECTIONS, f"errors: {errors}")
        report.expect(done["updated"] > 100 and done["unchanged"] > 100, f"the batches hardly met: {dict(done)}")
        report.counts = {"rows": dict(done)}
    assert not report.violations


def write_some(keys: list[int], *, value: int, is_hashed: bool, size: int) -> dict[str, int]:
    if is_hashed:
        values = {"amount": value, "note": "", "booked_at": "2025-01-01T00:00:00Z"}
        rows = [Booking(biz_key=str(key), **values) for key in keys]
        return Booking.objects.upsert(rows, batch_size=size).counts
    return upsert(Fact, [Fact(biz_key=str(key), amount=value) for key in keys], key="biz_key", batch_size=size).counts

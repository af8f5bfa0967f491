"""A watermark moves on with what its window did, never back, and for one runner at a time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from django_idempotency.reprocessing import Watermark, WatermarkBusy, WatermarkMoved
from django_idempotency.reprocessing.errors import WatermarkTypeChanged
from django_idempotency.reprocessing.models import WatermarkRow
from django_idempotency.signals import operation_answered
from tests.campaigns.sessions import PATIENCE, Gate, other_sessions, seen_from_outside
from tests.reprocessing.models import Entry

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def integers(**options: Any) -> Watermark:
    return Watermark("entries", type=int, **options)


def work(mark: Watermark, upto: int) -> list[int]:
    """Take what a window has, as a runner would, and leave a trace of each in its transaction."""
    with mark.window(upto=upto) as window:
        low: Any = window.low or 0
        taken = list(range(low, upto))
        Entry.objects.bulk_create(Entry(account="seen", amount=number) for number in taken)
    return taken


def test_bounds_are_half_open_and_meet() -> None:
    mark = Watermark("orders")
    with mark.window(upto=NOON) as first:
        assert (first.low, first.high) == (None, NOON)
    with mark.window(upto=NOON + HOUR) as second:
        assert (second.low, second.high) == (NOON, NOON + HOUR)
    assert mark.position == NOON + HOUR
    assert work(integers(), 3) + work(integers(), 5) == [0, 1, 2, 3, 4]


def test_an_exception_leaves_the_watermark_and_the_effects_as_they_were() -> None:
    work(integers(), 3)

    def fail() -> None:
        with integers().window(upto=5):
            Entry.objects.create(account="lost", amount=1)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert integers().position == 3
    assert not Entry.objects.filter(account="lost").exists()


def test_the_effects_and_the_move_are_seen_by_others_together() -> None:
    with integers().window(upto=3):
        Entry.objects.create(account="seen", amount=1)
        if connection.vendor == "postgresql":
            assert seen_from_outside(lambda: (Entry.objects.count(), integers().position)) == (0, None)
    assert seen_from_outside(lambda: (Entry.objects.count(), integers().position)) == (1, 3)


def test_a_window_that_would_end_behind_the_watermark_is_empty_and_moves_nothing() -> None:
    work(integers(), 5)
    for end in (4, 5):
        with integers().window(upto=end) as window:
            assert window.is_empty
    assert integers().position == 5


def test_a_lag_reads_again_and_moves_on_no_less() -> None:
    mark = Watermark("orders")
    with mark.window(upto=NOON):
        pass
    with mark.window(lag=HOUR, upto=NOON + HOUR) as window:
        assert (window.low, window.high) == (NOON - HOUR, NOON + HOUR)
    assert mark.position == NOON + HOUR


def test_a_lag_does_not_read_again_where_nothing_is_new() -> None:
    mark = Watermark("orders")
    for _ in range(2):
        with mark.window(lag=HOUR, upto=NOON) as window:
            pass
    assert window.is_empty
    assert mark.position == NOON


def test_a_window_may_end_early_but_not_outside_of_itself() -> None:
    work(integers(), 3)
    with integers().window(upto=10) as window:
        window.end_at(7)
        for outside in (2, 11):
            with pytest.raises(ValueError, match="outside"):
                window.end_at(outside)
    assert integers().position == 7


@pytest.mark.parametrize("upto", [None, Now(), timezone.now, lambda: timezone.now()])
def test_the_end_is_now_unless_said_otherwise(upto: Any) -> None:
    before = timezone.now()
    with Watermark("orders").window(upto=upto) as window:
        assert isinstance(window.high, datetime)
        assert abs(window.high - before) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("declared", "position"),
    [
        (datetime, NOON),
        (int, 2**62),
        (str, "01J-ÄÖ"),
        ((datetime, int), (NOON, 7)),
        ((datetime, str), (NOON,)),
        ((int, int), (5, 6)),
    ],
)
def test_positions_come_back_as_they_were(declared: Any, position: Any) -> None:
    mark = Watermark("orders", type=declared)
    with mark.window(upto=position):
        pass
    assert mark.position == position
    assert type(mark.position) is type(position)


@pytest.mark.parametrize(("declared", "wrong"), [(int, "7"), (int, True), (str, 7), ((datetime, int), NOON)])
def test_a_position_of_another_type_is_refused(declared: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="no position of type"), Watermark("orders", type=declared).window(upto=wrong):
        pass


@pytest.mark.parametrize("declared", [float, (), (datetime, bytes), "datetime"])
def test_other_types_are_refused(declared: Any) -> None:
    with pytest.raises(TypeError, match="A position is"):
        Watermark("orders", type=declared)


def test_a_name_that_is_used_with_another_type_is_refused_until_it_is_rewound() -> None:
    work(integers(), 3)
    texts = Watermark("entries", type=str)
    with pytest.raises(WatermarkTypeChanged, match="of type integer, not text"), texts.window(upto="b"):
        pass
    texts.rewind(None, reason="another source", actor="user:ops")
    with texts.window(upto="b") as window:
        assert window.low is None


def test_partitions_have_positions_of_their_own() -> None:
    for partition, end in (("0", 3), ("1", 8)):
        work(integers(partition=partition), end)
    assert [integers(partition=partition).position for partition in ("0", "1", "2")] == [3, 8, None]


@pytest.mark.postgresql
def test_a_second_runner_waits_and_goes_on_where_the_first_has_ended() -> None:
    gate = Gate()

    def first() -> None:
        with integers().window(upto=5) as window:
            gate()
            Entry.objects.bulk_create(Entry(account="seen", amount=number) for number in range(window.low or 0, 5))  # type: ignore[arg-type, operator]

    with other_sessions() as start:
        running = start(first)
        gate.wait_until_reached()
        waiting = start(work, integers(), 8)
        time.sleep(0.1)
        assert not waiting.done()
        gate.open()
        running.result(PATIENCE)
        assert waiting.result(PATIENCE) == [5, 6, 7]
    assert sorted(Entry.objects.values_list("amount", flat=True)) == list(range(8))


@pytest.mark.postgresql
def test_a_second_runner_is_refused_if_it_does_not_want_to_wait() -> None:
    work(integers(), 1)
    gate = Gate()

    def first() -> None:
        with integers().window(upto=5):
            gate()

    with other_sessions() as start:
        running = start(first)
        gate.wait_until_reached()
        with pytest.raises(WatermarkBusy), integers().window(upto=8, wait=False):
            pass
        gate.open()
        running.result(PATIENCE)
    assert integers().position == 5


def test_many_runners_take_each_row_once() -> None:
    with other_sessions() as start:
        runs = [start(work, integers(), 10 * number) for number in range(1, 9)]
        taken = [number for run in runs for number in run.result(PATIENCE)]
    assert sorted(taken) == list(range(80))
    assert sorted(Entry.objects.values_list("amount", flat=True)) == list(range(80))


def test_a_watermark_that_was_moved_meanwhile_undoes_the_window() -> None:
    work(integers(), 3)

    def move_meanwhile() -> None:
        with integers().window(upto=5):
            WatermarkRow.objects.update(position="[9]", moves=99)
            Entry.objects.create(account="lost", amount=1)

    with pytest.raises(WatermarkMoved):
        move_meanwhile()
    assert integers().position == 3
    assert not Entry.objects.filter(account="lost").exists()


@pytest.mark.parametrize("to", [None, 1, 9])
def test_a_rewind_moves_it_by_hand_and_says_who_and_why(to: Any, decisions: list[dict[str, Any]]) -> None:
    work(integers(), 5)
    integers().rewind(to, reason="a bug", actor="user:ops")
    assert integers().position == to
    (facts,) = decisions
    told = {name: facts[name] for name in ("layer", "operation", "action", "actor", "reason", "using")}
    assert told == {
        "layer": "reprocessing",
        "operation": "entries",
        "action": "rewound",
        "actor": "user:ops",
        "reason": "a bug",
        "using": "default",
    }


@pytest.mark.parametrize(("reason", "actor"), [("", "user:ops"), ("a bug", "")])
def test_a_rewind_without_a_reason_or_an_actor_is_refused(reason: str, actor: str) -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        integers().rewind(None, reason=reason, actor=actor)


def test_each_window_that_moves_on_is_told_and_an_empty_one_is_not() -> None:
    told: list[Any] = []

    def listen(**facts: Any) -> None:
        told.append(
            (facts["operation"], facts["layer"], facts["outcome"], transaction.get_connection().in_atomic_block)
        )

    operation_answered.connect(listen)
    try:
        work(integers(), 5)
        work(integers(), 5)
    finally:
        operation_answered.disconnect(listen)
    assert told == [("entries", "reprocessing", "executed", True)]


def test_the_lag_is_time_or_a_number_or_cannot_be_told() -> None:
    mark = Watermark("orders")
    assert mark.lag() is None
    with mark.window(upto=timezone.now() - HOUR):
        pass
    lag = mark.lag()
    assert isinstance(lag, timedelta)
    assert HOUR <= lag < HOUR + timedelta(minutes=1)
    work(integers(), 5)
    assert (integers().lag(12), integers().lag()) == (7, None)


def test_a_window_over_integers_needs_its_end() -> None:
    with pytest.raises(ValueError, match="needs its end"), integers().window():
        pass


def test_a_lag_that_does_not_fit_the_positions_is_refused() -> None:
    work(integers(), 5)
    with pytest.raises(TypeError, match="lag"), integers().window(lag=HOUR, upto=9):
        pass


def test_other_strategies_are_refused() -> None:
    strategy: Any = "xmax"
    with pytest.raises(ValueError, match="xmax"):
        Watermark("entries", strategy=strategy)


@pytest.mark.sqlite
def test_sqlite_says_what_to_do_in_place_of_snapshots() -> None:
    with pytest.raises(ImproperlyConfigured, match="one writer"), Watermark("entries", strategy="xmin").window():
        pass

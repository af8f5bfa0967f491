"""The arithmetic of the benchmarks."""

import pytest

from tests.benchmarks.ratios import Figure, Goal, Spread, bracketed


def test_a_run_is_related_to_the_mean_of_the_reference_around_it() -> None:
    assert bracketed(80, 90, 110) == pytest.approx(0.8)
    assert bracketed(80, 100) == pytest.approx(0.8)


def test_a_drift_of_the_machine_cancels_out() -> None:
    speeds = [100 - drift for drift in range(3)]
    assert bracketed(speeds[1], speeds[0], speeds[2]) == pytest.approx(1)


def test_a_spread_is_the_median_and_the_range() -> None:
    assert Spread.of([0.9, 0.7, 0.8]) == Spread(median=0.8, lowest=0.7, highest=0.9)
    assert Spread.of([0.5, 0.7]).median == pytest.approx(0.6)


def test_a_spread_reads_so_that_a_missed_goal_does_not_look_met() -> None:
    assert str(Spread.of([0.7966, 0.7, 0.8123])) == "0.797 [0.700–0.812]"
    assert str(Spread.of([123.456])) == "123.5 [123.5–123.5]"


@pytest.mark.parametrize(
    ("goal", "value", "is_met"),
    [
        (Goal(at_least=0.8), 0.8, True),
        (Goal(at_least=0.8), 0.79, False),
        (Goal(at_most=250), 250, True),
        (Goal(at_most=250), 251, False),
        (Goal(), 0, True),
    ],
)
def test_a_goal_is_a_bound_that_may_be_reached(goal: Goal, value: float, is_met: bool) -> None:
    assert goal.is_met(value) is is_met


def test_the_median_decides_whether_a_figure_misses_its_goal() -> None:
    spread = Spread.of([0.7, 0.8, 0.9])
    assert not Figure(name="fresh", spread=spread, goal=Goal(at_least=0.8)).is_missed
    assert Figure(name="fresh", spread=spread, goal=Goal(at_least=0.81)).is_missed
    assert not Figure(name="fresh", spread=spread).is_missed

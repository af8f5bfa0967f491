"""``python -m tests.benchmarks speed``: the protected view beside the same view without protection.

Each run is bracketed by runs of its reference, so that a drift of the machine cancels out; the order of the pairs is
shuffled in every round. *Fresh* sends a new key with each request, *replay* cycles over keys that were used before,
*atomic* is the bare view as ATOMIC_REQUESTS runs it: the least that any design costs that commits effect and outcome
together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Goal, Spread, bracketed
from tests.benchmarks.reports import Report
from tests.benchmarks.runs import Run, Target, measure, new_prefix
from tests.benchmarks.services import Service

_WARM_UP_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A target and what it is compared with."""

    target: str
    reference: str
    goal: Goal | None = None
    goal_with_redis: Goal | None = None

    @property
    def name(self) -> str:
        """Return how tables call the ratio."""
        return f"{self.target} / {self.reference}"


PAIRS = (
    Pair(target="fresh", reference="atomic", goal=Goal(at_least=0.80), goal_with_redis=Goal(at_least=0.72)),
    Pair(target="replay", reference="bare", goal=Goal(at_least=1.15), goal_with_redis=Goal(at_least=1.35)),
    Pair(target="fresh", reference="bare"),
    Pair(target="atomic", reference="bare"),
)


def run(bench: Bench) -> Report:
    """Measure all pairs in every round."""
    with bench.service(bench.databases.new()) as service:
        targets = _targets(service)
        targets["replay"].use_keys()
        for target in targets.values():
            measure(target, _WARM_UP_SECONDS)
        bench.databases.checkpoint()
        rounds = [list(_round(bench, targets)) for _ in bench.rounds()]
    measured = [item for one_round in rounds for item in one_round]
    return Report(
        benchmark="speed",
        runs=[run for _, runs in measured for run in runs],
        figures=[
            _figure(
                pair,
                [runs for measured_pair, runs in measured if measured_pair is pair],
                pair.goal_with_redis if bench.options.redis else pair.goal,
            )
            for pair in PAIRS
        ],
    )


def _targets(service: Service) -> dict[str, Target]:
    return {
        "bare": Target(name="bare", service=service, path="/bare/"),
        "atomic": Target(name="atomic", service=service, path="/atomic/"),
        "fresh": Target(name="fresh", service=service, path="/protected/", has_keys=True),
        "replay": Target(name="replay", service=service, path="/protected/", replayed_prefix=new_prefix()),
    }


def _round(bench: Bench, targets: dict[str, Target]) -> Iterator[tuple[Pair, list[Run]]]:
    for pair in bench.shuffled(PAIRS):
        order = (pair.reference, pair.target, pair.reference)
        yield pair, [measure(targets[name], bench.seconds) for name in order]


def _figure(pair: Pair, brackets: list[list[Run]], goal: Goal | None) -> Figure:
    ratios = [bracketed(target.rate, before.rate, after.rate) for before, target, after in brackets]
    return Figure(name=pair.name, spread=Spread.of(ratios), goal=goal)

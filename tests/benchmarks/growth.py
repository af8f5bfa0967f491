"""``python -m tests.benchmarks growth``: the protected view with a million live records, beside it with a thousand.

Two databases stand behind two services of which one is idle while the other is measured; each run with many records is
bracketed by runs with few. ``--records`` makes the large one smaller, to try the benchmark out.
"""

from __future__ import annotations

from contextlib import ExitStack

from tests.benchmarks import records
from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Goal, Spread, bracketed
from tests.benchmarks.reports import Report
from tests.benchmarks.runs import Run, Target, measure

FEW, MANY = 1_000, 1_000_000
GOAL = Goal(at_least=0.95)
_WARM_UP_SECONDS = 2


def run(bench: Bench) -> Report:
    """Measure few, many, few in every round."""
    counts = (FEW, bench.options.records or MANY)
    urls = [_filled(bench, count) for count in counts]
    sizes = {f"bytes of {count} records": records.size(url) for count, url in zip(counts, urls, strict=True)}
    bench.databases.checkpoint()
    with ExitStack() as stack:
        services = [stack.enter_context(bench.service(url)) for url in urls]
        few, many = (
            Target(name=f"{count} records", service=service, path="/protected/", has_keys=True)
            for count, service in zip(counts, services, strict=True)
        )
        for target in (few, many):
            measure(target, _WARM_UP_SECONDS)
        brackets = [[measure(target, bench.seconds) for target in (few, many, few)] for _ in bench.rounds()]
    return Report(
        benchmark="growth",
        runs=[run for bracket in brackets for run in bracket],
        figures=[_figure(f"{many.name} / {few.name}", brackets)],
        facts=sizes,
    )


def _filled(bench: Bench, count: int) -> str:
    bench.say(f"making {count} records")
    url = bench.databases.new()
    records.fill(url, count)
    return url


def _figure(name: str, brackets: list[list[Run]]) -> Figure:
    ratios = [bracketed(many.rate, before.rate, after.rate) for before, many, after in brackets]
    return Figure(name=name, spread=Spread.of(ratios), goal=GOAL)

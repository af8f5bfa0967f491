"""``python -m tests.benchmarks objects``: what storing content by its digest costs beside a plain save.

Each put, of new content and of content that is there, is compared with ``save`` of the storage below, of the same bytes
in the same folder or bucket, right before and after it. A plain save does not wait for the disk; so there are also a
put without ``fsync``, a save whose file is synced, and one whose file and folder are, which is what a put does. The
folder of new content is there, as in a storage that is in use, unless it says otherwise. ``file`` is content that lies
on the disk and is too large to be kept in memory. The bucket is moto's, on this machine: figures tell of requests and
of Python there, not of a network. TMPDIR says where files are written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.benchmarks.benches import Bench
from tests.benchmarks.ratios import Figure, Goal, Spread
from tests.benchmarks.reports import Report

ROUNDS = 15
NEW, KNOWN = Goal(at_most=1.2), Goal(at_most=0.5)
#: What was measured, and what it is compared with.
_FILES = (
    ("new, no fsync", "save"),
    ("known", "save"),
    ("known", "save and fsync"),
    ("new", "save and fsync"),
    ("new", "save and fsync of file and folder"),
    ("new, with its folders", "save and fsync"),
    ("new", "save"),
)
_BUCKETS = (("new", "save"), ("known", "save"))
#: Goals where a hash is little beside the rest; of what is durable, and of what is large, there are figures alone.
_GOALS = {
    ("10 kB", "new, no fsync", "save"): NEW,
    ("10 kB", "known", "save"): KNOWN,
    ("10 kB", "known", "save and fsync"): KNOWN,
    ("1 MB", "known", "save and fsync"): KNOWN,
    ("S3, 10 kB", "new", "save"): NEW,
    ("S3, 5 MB", "new", "save"): NEW,
    ("S3, 5 MB", "known", "save"): KNOWN,
}
Seconds = dict[str, dict[str, list[float]]]


def run(bench: Bench) -> Report:
    """Let a process of its own measure; draw the ratios of each round."""
    bench.say("putting")
    command = [sys.executable, "-m", "tests.benchmarks.storing", str(bench.options.rounds or ROUNDS)]
    environment = {**os.environ, "TMPDIR": str(bench.folder)}
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds: Seconds = json.loads(said)
    figures = [figure for content, measured in seconds.items() for figure in _figures(content, measured)]
    return Report(benchmark="objects", runs=[], figures=figures, facts=_facts(seconds))


def _figures(content: str, measured: dict[str, list[float]]) -> list[Figure]:
    return [
        Figure(
            name=f"{content}: put {put} / {save}",
            spread=Spread.of([one / other for one, other in zip(measured[put], measured[save], strict=True)]),
            goal=_GOALS.get((content, put, save)),
        )
        for put, save in (_FILES if "save and fsync" in measured else _BUCKETS)
    ]


def _facts(seconds: Seconds) -> dict[str, dict[str, str]]:
    return {
        f"milliseconds, {content}": {name: f"{1000 * Spread.of(each).median:.2f}" for name, each in measured.items()}
        for content, measured in seconds.items()
    }

"""``python -m tests.benchmarks [NAME]``: figures of the kind that a deployment would see.

NAME is one of ``speed``, ``growth``, ``purge``, ``windows``, ``upsert``, ``objects``, ``jobs``, ``queues``
and ``streams``.
PostgreSQL (15 or later) is the one of ``DATABASE_URL``, whose user must be a superuser, else one that is started and
deleted; wrk sends the requests, gunicorn takes them. With ``--redis`` the protected view has Redis in front: that of
``REDIS_URL``, else one that is started and ends with this. Ends with status 1 where a run was invalid (a request
failed, or wrote another number of rows than it should) or a goal was missed. Run it on a machine that does nothing
else.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from demo_project.servers import ServerUnavailable, redis_url
from tests.benchmarks import growth, jobs, objects, purge, queues, speed, streams, upsert, windows
from tests.benchmarks.benches import Options, bench
from tests.benchmarks.load import WrkMissing, find_wrk
from tests.benchmarks.reports import Report, environment
from tests.benchmarks.services import ServiceFailed

BENCHMARKS = {
    "speed": speed.run,
    "growth": growth.run,
    "purge": purge.run,
    "windows": windows.run,
    "upsert": upsert.run,
    "objects": objects.run,
    "jobs": jobs.run,
    "queues": queues.run,
    "streams": streams.run,
}


def main(arguments: list[str]) -> int:
    """Run one benchmark; return the exit status."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    os.environ["BENCHMARK_PREPARED"] = str(int(asked.prepared))
    os.environ["BENCHMARK_UNAUDITED"] = str(int(asked.unaudited))
    try:
        find_wrk()
        os.environ["BENCHMARK_REDIS"] = redis_url() if asked.redis else ""
        return 0 if _run(asked, arguments).is_good else 1
    except (WrkMissing, ServerUnavailable, ServiceFailed) as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("benchmark", nargs="?", choices=BENCHMARKS, default="speed", help="default: speed")
    parser.add_argument("--rounds", type=int, help="default: 5, 7 or 15, of purge 1")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run, default: 3")
    parser.add_argument("--workers", type=int, default=2, help="of gunicorn, default: 2")
    parser.add_argument("--threads", type=int, default=4, help="of each worker, default: 4")
    records = "of growth (default: 1000000), purge (2000000), upsert and streams (20000), queues (500)"
    parser.add_argument("--records", type=int, help=records)
    parser.add_argument("--seed", type=int, help="of the shuffled order, default: a random one")
    parser.add_argument("--unaudited", action="store_true", help="without audit events, to see what they cost")
    parser.add_argument("--prepared", action="store_true", help="with OPTIONS['prepare_threshold'] = 0 in DATABASES")
    parser.add_argument("--redis", action="store_true", help="with CachedDatabaseStore")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write figures, runs, seed and versions there")
    return parser


def _run(asked: argparse.Namespace, arguments: list[str]) -> Report:
    options = Options(
        rounds=asked.rounds,
        seconds=asked.seconds,
        workers=asked.workers,
        threads=asked.threads,
        records=asked.records,
        redis=asked.redis,
        seed=random.getrandbits(32) if asked.seed is None else asked.seed,
    )
    command = shlex.join(["python", "-m", "tests.benchmarks", *arguments])
    with bench(options) as place:
        report = BENCHMARKS[asked.benchmark](place)
        facts = {"command": command, "seed": options.seed, **environment(place.databases.version)}
    report.show(Console(width=None if sys.stdout.isatty() else 110))
    print(f"seed {options.seed}")
    if asked.json:
        report.save(asked.json, facts)
    return report


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind on SIGTERM as on Control-C, so that servers and files are cleaned up."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

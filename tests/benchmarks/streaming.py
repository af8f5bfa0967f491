"""``python -m tests.benchmarks.streaming EVENTS ROUNDS SEED`` publishes and consumes, with and without guarantees.

Prints one JSON object: events a second of each way, by round, and the statements that a batch takes. The database is
that of DATABASE_URL, the broker that of KAFKA_BOOTSTRAP_SERVERS.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from random import Random

import django


def main(count: int, rounds: int, seed: int) -> None:
    """Measure every way in every round, in a random order."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    django.setup()
    from django.test import override_settings

    from tests.kafka_servers import brokers

    chance, rates = Random(seed), dict[str, list[float]]()
    with override_settings(IDEMPOTENCY_BROKERS=brokers(os.environ["KAFKA_BOOTSTRAP_SERVERS"])):
        from tests.benchmarks import stream_ways

        ways: dict[str, Callable[[], float]] = stream_ways.prepare(count)
        for _ in range(rounds):
            for name in chance.sample(sorted(ways), len(ways)):
                rates.setdefault(name, []).append(ways[name]())
        statements = stream_ways.statements()
    print(json.dumps({"rates": rates, "statements": statements}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

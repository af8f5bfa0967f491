"""Every store does what the reference does, whatever is done to it in whatever order.

``python -m pytest -m campaign tests/stores/test_machine.py`` takes 100 000 steps on each store, on PostgreSQL or, with
``DATABASE_URL=sqlite``, on SQLite, and finds the shortest way to what fails; the default run does always the same, in a
few seconds. IDEMPOTENCY_EXAMPLES overrides the number of runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.core.cache import caches
from django.test import override_settings
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.campaigns.harness import TIMEOUT, Report
from tests.redis_servers import cache, started_url
from tests.stores.machine import StoreMachine
from tests.stores.subjects import CachedDatabase, Database, Memory, RedisAlone, Subject

SHORT = 20


KINDS: list[type[Subject]] = [Memory, Database, CachedDatabase, RedisAlone]


@pytest.fixture
def _redis() -> Iterator[None]:
    timeouts = {"SOCKET_TIMEOUT": TIMEOUT, "SOCKET_CONNECT_TIMEOUT": TIMEOUT}
    redis = cache(started_url().rpartition("/")[0] + "/2", **timeouts)
    # The secret of make_operation(), with which copies are named.
    with override_settings(CACHES={"default": redis}, IDEMPOTENCY_SECRETS=["a secret"]):
        yield
        caches["default"].client.get_client(write=True).flushdb()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_redis")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "examples", [SHORT, pytest.param(2100, marks=[pytest.mark.campaign, pytest.mark.timeout(7200)])]
)
def test_it_does_what_the_reference_does(kind: type[Subject], examples: int) -> None:
    examples, subject = int(os.environ.get("IDEMPOTENCY_EXAMPLES", examples)), kind()
    is_short = examples <= SHORT
    with Report(campaign=f"model {kind.__name__}") as report:
        run_state_machine_as_test(
            lambda: StoreMachine(subject),
            settings=settings(
                max_examples=examples,
                stateful_step_count=50,
                deadline=None,
                database=None,
                derandomize=is_short,
                phases=[Phase.generate] if is_short else [Phase.generate, Phase.shrink],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
        report.counts = {"runs": subject.runs, "steps": subject.steps}

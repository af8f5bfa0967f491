"""Redis in front of the database breaks in every way while requests are served: nothing changes but speed.

``python -m pytest -m campaign tests/campaigns/test_redis_faults.py`` strikes 200 times with each fault and measures
what a Redis costs that is down; the default run is a smaller one. IDEMPOTENCY_STRIKES and IDEMPOTENCY_SEED override
the number and the moments.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest
from django.db.models import Count

from django_idempotency.stores.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.failpoints import HEADER
from tests.campaigns.harness import TIMEOUT, Answer, Report, Server, eventually
from tests.campaigns.load import Load
from tests.campaigns.redis_faults import RedisServer, free_port
from tests.campaigns.test_storm import check_one_key
from tests.models import Payment

APP = "tests.campaigns.redis_wsgi:application"
CLIENTS = 6
AT_MOST_ADDED = 0.050
AT_LEAST_SENT = 40
Strike = Callable[[RedisServer, random.Random], None]


def served(caller: Caller, redis_url: str = "", **environment: str) -> Server:
    """Return the service, with Redis in front if there is a URL."""
    return Server(token=caller.token.key, app=APP, environment={"CAMPAIGN_REDIS": redis_url, **environment})


def flush(server: RedisServer, chance: random.Random) -> None:
    server.client.flushall()


def kill_and_restart(server: RedisServer, chance: random.Random) -> None:
    server.kill()
    time.sleep(chance.uniform(0, 0.1))
    server.start()


def stop_and_continue(server: RedisServer, chance: random.Random) -> None:
    with server.stopped():
        time.sleep(chance.uniform(0, 0.4))


def pause(server: RedisServer, chance: random.Random) -> None:
    server.client.client_pause(chance.randrange(1, 300))


def evict(server: RedisServer, chance: random.Random) -> None:
    """Leave it hardly any memory for a moment, so that it drops keys as it likes, and refuses what does not fit."""
    before = server.client.info("stats")["evicted_keys"]
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    server.client.config_set("maxmemory", int(server.client.info("memory")["used_memory"]) - chance.randrange(50_000))
    time.sleep(chance.uniform(0, 0.1))
    server.client.config_set("maxmemory", 0)
    server.evicted += server.client.info("stats")["evicted_keys"] - before


STRIKES: dict[str, Strike] = {
    "FLUSHALL": flush,
    "SIGKILL, restart": kill_and_restart,
    "SIGSTOP, SIGCONT": stop_and_continue,
    "CLIENT PAUSE": pause,
    "eviction": evict,
}


@pytest.mark.parametrize("strikes", [3, pytest.param(200, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)])])
def test_f11_a_redis_that_breaks_under_load_costs_no_outcome(alice: Caller, strikes: int) -> None:
    strikes = int(os.environ.get("IDEMPOTENCY_STRIKES", strikes))
    seed = int(os.environ.get("IDEMPOTENCY_SEED", 0))
    order = [name for name in STRIKES for _ in range(strikes)]
    chance = random.Random(seed)
    chance.shuffle(order)
    with (
        Report(campaign="redis faults", seed=seed) as report,
        RedisServer() as redis,
        served(alice, redis.url, CAMPAIGN_PAUSE="0.05") as server,
    ):
        load = Load(server, report, clients=CLIENTS, seed=seed)
        with load.running():
            for name in order:
                answered = load.answered
                STRIKES[name](redis, chance)
                eventually(lambda past=answered + CLIENTS: load.answered > past, f"answers after {name}")
                time.sleep(chance.uniform(0, 0.1))
        load.replay_all(sample=500)
        check_rows(report, load.acknowledged)
        struck = dict.fromkeys(STRIKES, strikes)
        report.counts = {"strikes": struck, "evicted keys": redis.evicted, **load.counts()}
    assert not report.violations


def check_rows(report: Report, acknowledged: dict[str, bytes]) -> None:
    """Compare what clients were told with what the database holds."""
    doubled = Payment.objects.values("reference").annotate(rows=Count("id")).filter(rows__gt=1)
    report.expect(not doubled, f"I1: several payments of {list(doubled)}")
    written = set(Payment.objects.values_list("reference", flat=True))
    report.expect(written == set(acknowledged), f"I3: {len(written ^ set(acknowledged))} keys of the one and not both")
    report.expect(Record.objects.count() == len(written), "I3: not one record a payment")


@contextmanager
def unbroken(server: RedisServer) -> Iterator[None]:
    yield


@contextmanager
def gone(server: RedisServer) -> Iterator[None]:
    server.kill()
    yield


@contextmanager
def silent(server: RedisServer) -> Iterator[None]:
    with server.stopped():
        yield


@pytest.mark.parametrize(
    ("seconds", "percentile"), [(1, 50), pytest.param(20, 95, marks=[pytest.mark.campaign, pytest.mark.timeout(900)])]
)
def test_f12_a_redis_that_is_down_adds_less_than_50_ms(alice: Caller, seconds: float, percentile: int) -> None:
    measured: dict[str, list[float]] = {"without Redis": [], "up": [], "gone": [], "silent": []}
    with Report(campaign="redis down") as report:
        with served(alice) as server:
            measured["without Redis"] = timed(server, report, seconds)
        for name, state in (("up", unbroken), ("gone", gone), ("silent", silent)):
            with RedisServer() as redis, served(alice, redis.url) as server, state(redis):
                measured[name] = timed(server, report, seconds)
        slow = {name: quantiles(taken, n=100)[percentile - 1] for name, taken in measured.items()}
        for name in ("gone", "silent"):
            added = slow[name] - slow["without Redis"]
            report.expect(added < AT_MOST_ADDED, f"F12: {name} adds {ms(added)} ms at the {percentile}th percentile")
        report.counts = {name: summary(taken) for name, taken in measured.items()}
    assert not report.violations


def timed(server: Server, report: Report, seconds: float) -> list[float]:
    """Send fresh keys and their replays from four clients for some seconds; return what each request took.

    On a busy machine that is for longer: the first requests that find a server gone wait for it.
    """
    end = time.monotonic() + seconds

    def client(_: int) -> list[float]:
        taken: list[float] = []
        while time.monotonic() < end or len(taken) < AT_LEAST_SENT:
            key = new_key()
            for _ in range(2):
                started = time.monotonic()
                answer = server.post("/payments/", {"amount": 3, "reference": key}, key=key)
                taken.append(time.monotonic() - started)
                report.expect(answer.status == 201, f"F12: {answer.status}")
        return taken

    with ThreadPoolExecutor(4) as pool:
        return [one for taken in pool.map(client, range(4)) for one in taken]


def summary(taken: list[float]) -> dict[str, float]:
    slow = quantiles(taken, n=100)[94]
    return {"requests": len(taken), "median ms": ms(median(taken)), "p95 ms": ms(slow), "slowest ms": ms(max(taken))}


def ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


@pytest.mark.parametrize("keys", [1, pytest.param(50, marks=pytest.mark.campaign)])
def test_of_a_hundred_duplicates_of_a_slow_key_two_ask_the_database(alice: Caller, tmp_path: Path, keys: int) -> None:
    lookups, asked = tmp_path / "lookups", []
    with (
        Report(campaign="redis storm") as report,
        RedisServer() as redis,
        served(alice, redis.url, CAMPAIGN_LOOKUPS=str(lookups)) as server,
        ThreadPoolExecutor(100) as pool,
    ):
        for _ in range(keys):
            key, before = new_key(), lookups.stat().st_size
            body = {"amount": 3, "reference": key}
            answers = list(pool.map(lambda _, k=key, b=body: server.post("/slow/", b, key=k), range(100)))
            asked.append(lookups.stat().st_size - before)
            check_one_key(report, key, answers, [server.post("/slow/", body, key=key) for _ in range(2)])
        report.expect(max(asked) <= 2, f"{max(asked)} requests asked the database")
        report.counts = {
            "keys": keys,
            "duplicates": 100,
            "look-ups a key": {"median": median(asked), "most": max(asked)},
        }
    assert not report.violations


def test_a_killed_worker_frees_its_key_within_the_second_of_its_mark(alice: Caller) -> None:
    key = new_key()
    body = {"amount": 3, "reference": key}
    with RedisServer() as redis, served(alice, redis.url) as server:
        with suppress(OSError, HTTPException):
            server.post("/payments/", body, key=key, headers={HEADER: "after write"})
        killed = time.monotonic()
        while (answer := server.post("/payments/", body, key=key)).status == 409:
            assert time.monotonic() < killed + TIMEOUT
            time.sleep(0.02)
        taken = time.monotonic() - killed
        replay = server.post("/payments/", body, key=key)
    assert (answer.status, answer.is_replayed, replay.is_replayed) == (201, False, True)
    assert taken < 2
    assert Payment.objects.count() == 1


def test_a_redis_that_was_never_there_is_no_reason_not_to_serve(alice: Caller) -> None:
    key = new_key()
    with served(alice, f"redis://127.0.0.1:{free_port()}/0") as server:
        answers: list[Any] = [server.post("/payments/", {"amount": 3}, key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [201] * 3
    assert isinstance(answers[0], Answer)
    assert Payment.objects.count() == 1

"""What four workers count is what the client has counted."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from demo_project.serving import Server, free_port, serving
from tests.demo.charges import key
from tests.demo.commands import environment

PATH, OPERATION = "/api/charges/", "POST charge-list"
FRESH, RETRIES, OTHERS, RIVALS = 40, 3, 2, 4


@pytest.fixture(scope="module")
def four_workers(seeded_url: str) -> Iterator[Server]:
    variables = environment(seeded_url, DEMO_FAULTS="1", GUNICORN_CMD_ARGS="--workers=4")
    with serving(free_port(), variables) as server:
        yield server


@pytest.fixture
def client(four_workers: Server) -> Iterator[httpx.Client]:
    """A client that keeps no connection, so that any worker may get the next request."""
    headers = {"Authorization": "Token alice-demo-token"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    with httpx.Client(base_url=four_workers.url, headers=headers, limits=limits, trust_env=False, timeout=30) as client:
        yield client


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def charge(client: httpx.Client, used: str, amount_cents: int = 1000, fault: str = "") -> str:
    """Send a charge and return what came of it, in the words of the metrics."""
    headers = {"Idempotency-Key": f'"{used}"', **({"X-Demo-Fault": fault} if fault else {})}
    response = client.post(PATH, json={"user_id": "metrics", "amount_cents": amount_cents}, headers=headers)
    if response.status_code == 201:
        return "replayed" if response.headers.get("Idempotent-Replayed") == "true" else "executed"
    return {400: "rejected", 409: "in_progress", 422: "mismatch"}[response.status_code]


def test_anybody_may_scrape_and_what_waits_is_told_once(four_workers: Server) -> None:
    text = httpx.get(f"{four_workers.url}/metrics", trust_env=False, verify=False).text
    assert text.count('idempotency_records{database="default",status="completed"}') == 1
    assert text.count("idempotency_purge_lag_seconds{") == 1


def test_the_metrics_of_four_workers_add_up_to_what_the_client_has_counted(client: httpx.Client) -> None:
    before, keys, seen = samples(client), [key() for _ in range(FRESH)], Counter[str]()
    with ThreadPoolExecutor(8) as pool:
        seen.update(pool.map(lambda used: charge(client, used), keys))
        seen.update(pool.map(lambda used: charge(client, used), keys * RETRIES))
        seen.update(pool.map(lambda used: charge(client, used, 2000), keys * OTHERS))
        slow = uuid.uuid4()
        seen.update(pool.map(lambda _: charge(client, str(slow), fault="sleep:1"), range(RIVALS)))
        seen.update(pool.map(lambda used: charge(client, used), [""] * 5))
    after = samples(client)
    # On SQLite a duplicate waits for the one writer, and then is a replay.
    assert seen["in_progress"] > 0 or connection.vendor == "sqlite"
    counted = {
        outcome: after.get(sample, 0) - before.get(sample, 0)
        for outcome in seen
        for sample in [("idempotency_claims_total", "http", OPERATION, outcome)]
    }
    assert counted == dict(seen)
    for name, outcome in (
        ("idempotency_hits_total", "replayed"),
        ("idempotency_misses_total", "executed"),
        ("operation_duration_seconds_count", "executed"),
    ):
        assert after[name, OPERATION] - before.get((name, OPERATION), 0) == seen[outcome]

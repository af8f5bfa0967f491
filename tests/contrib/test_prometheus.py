"""What is counted, under which labels, and that counting undoes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import RequestFactory
from django.test.utils import override_settings
from prometheus_client import REGISTRY

from django_idempotency import signals
from django_idempotency.contrib import prometheus
from tests.contrib.facts import COMMON, DIGEST, SECRETS, answered, attempted, decided


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Delta:
    """How much metrics have grown since they were looked at first."""

    def __init__(self) -> None:
        self._before = self._samples()

    def __call__(self) -> dict[tuple[str, ...], float]:
        grown = {sample: now - self._before.get(sample, 0.0) for sample, now in self._samples().items()}
        return {sample: count for sample, count in grown.items() if count}

    @staticmethod
    def _samples() -> dict[tuple[str, ...], float]:
        names = ("_bucket", "_created", "_sum")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for metric in REGISTRY.collect()
            if metric.name.startswith(("idempotency_", "operation_"))
            for sample in metric.samples
            if not sample.name.endswith(names)
        }


@pytest.fixture
def grown() -> Iterator[Delta]:
    """Count during this test."""
    prometheus.connect()
    yield Delta()
    prometheus.disconnect()


def test_an_executed_operation_is_a_miss_with_a_duration(grown: Delta) -> None:
    signals.operation_answered.send(**answered("executed"))
    assert grown() == {
        ("idempotency_claims_total", "http", "POST charge-list", "executed"): 1,
        ("idempotency_misses_total", "POST charge-list"): 1,
        ("operation_duration_seconds_count", "POST charge-list"): 1,
    }
    assert value("operation_duration_seconds_bucket", operation="POST charge-list", le="0.025") >= 1
    assert value("operation_duration_seconds_bucket", operation="POST charge-list", le="0.01") == 0


def test_a_replay_is_a_hit_and_has_no_duration(grown: Delta) -> None:
    signals.operation_answered.send(**answered("replayed"))
    assert grown() == {
        ("idempotency_claims_total", "http", "POST charge-list", "replayed"): 1,
        ("idempotency_hits_total", "POST charge-list"): 1,
    }


def test_what_failed_has_run_and_is_a_miss(grown: Delta) -> None:
    signals.operation_answered.send(**answered("failed", duration=0.1))
    assert grown()["idempotency_misses_total", "POST charge-list"] == 1


@pytest.mark.parametrize("outcome", ["in_progress", "mismatch", "rejected", "unknown", "expired"])
def test_a_refusal_is_neither_hit_nor_miss(grown: Delta, outcome: str) -> None:
    signals.operation_answered.send(**answered(outcome, status=409))
    assert grown() == {("idempotency_claims_total", "http", "POST charge-list", outcome): 1}


def test_hits_and_misses_exist_from_the_first_answer_on(grown: Delta) -> None:
    signals.operation_answered.send(**answered("executed", operation="POST never-replayed"))
    assert REGISTRY.get_sample_value("idempotency_hits_total", {"operation": "POST never-replayed"}) == 0


def test_batches_count_rows_and_windows_apart(grown: Delta) -> None:
    common = {**COMMON, "layer": "writes", "duration": 0.5}
    signals.batch_answered.send(
        **{**common, "operation": "shop.Price"}, counts={"inserted": 3, "updated": 2, "unchanged": 7, "stale": 1}
    )
    signals.batch_answered.send(**{**common, "operation": "bank-feed"}, counts={"executed": 5, "replayed": 4})
    assert grown() == {
        ("idempotency_upsert_rows_total", "shop.Price", "inserted"): 3,
        ("idempotency_upsert_rows_total", "shop.Price", "updated"): 2,
        ("idempotency_upsert_rows_total", "shop.Price", "unchanged"): 7,
        ("idempotency_upsert_rows_total", "shop.Price", "stale"): 1,
        ("idempotency_dedup_total", "bank-feed", "executed"): 5,
        ("idempotency_dedup_total", "bank-feed", "replayed"): 4,
        ("idempotency_claims_total", "writes", "bank-feed", "executed"): 5,
        ("idempotency_claims_total", "writes", "bank-feed", "replayed"): 4,
        ("idempotency_misses_total", "bank-feed"): 5,
        ("idempotency_hits_total", "bank-feed"): 4,
        ("operation_duration_seconds_count", "shop.Price"): 1,
        ("operation_duration_seconds_count", "bank-feed"): 1,
    }


@pytest.mark.django_db
def test_take_overs_fences_decisions_and_purges_are_counted(grown: Delta) -> None:
    signals.operation_taken_over.send(**attempted())
    signals.operation_fenced.send(**attempted(layer="jobs"))
    signals.operation_released.send(**decided(status="unknown"))
    signals.operation_resolved.send(**decided(is_done=True))
    signals.operation_resolved.send(**decided(is_done=False))
    signals.decision_made.send(**decided(layer="reprocessing", action="rewound"))
    signals.rows_purged.send(**COMMON, table="records", count=5000)
    assert grown() == {
        ("idempotency_taken_over_total", "http"): 1,
        ("idempotency_fenced_total", "jobs"): 1,
        ("idempotency_decisions_total", "http", "released"): 1,
        ("idempotency_decisions_total", "http", "resolved_done"): 1,
        ("idempotency_decisions_total", "http", "resolved_not_done"): 1,
        ("idempotency_decisions_total", "reprocessing", "rewound"): 1,
        ("idempotency_purged_total", "records"): 5000,
    }


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_counted(grown: Delta) -> None:
    with transaction.atomic():
        signals.operation_answered.send(**answered("executed", using="default"))
        assert grown() == {}
        transaction.set_rollback(True)
    assert grown() == {}
    with transaction.atomic():
        signals.operation_answered.send(**answered("executed", using="default"))
    assert grown()["idempotency_misses_total", "POST charge-list"] == 1


@pytest.mark.django_db(transaction=True)
def test_a_refusal_and_a_fence_are_counted_whatever_becomes_of_the_transaction(grown: Delta) -> None:
    with transaction.atomic():
        signals.operation_answered.send(**answered("mismatch", using="default"))
        signals.operation_fenced.send(**attempted(using="default"))
        transaction.set_rollback(True)
    assert grown() == {
        ("idempotency_claims_total", "http", "POST charge-list", "mismatch"): 1,
        ("idempotency_fenced_total", "http"): 1,
    }


@pytest.mark.django_db(transaction=True)
def test_without_a_transaction_the_database_is_not_connected_to(grown: Delta) -> None:
    connection.close()
    signals.operation_answered.send(**answered("executed", using="default", is_recorded=True))
    assert grown()["idempotency_misses_total", "POST charge-list"] == 1
    assert connection.connection is None


def test_a_metric_that_cannot_be_counted_is_logged_and_undoes_nothing(
    grown: Delta, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("Duplicated timeseries")

    monkeypatch.setattr(prometheus, "meters", fail)
    signals.operation_answered.send(**answered("replayed", operation="POST never seen"))
    assert "A fact could not be told" in caplog.text
    assert "Duplicated timeseries" in caplog.text


@override_settings(IDEMPOTENCY_METRICS_MAX_OPERATIONS=3)
def test_operations_beyond_the_cap_are_counted_together(grown: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "_names", prometheus.Names())
    for number in (1, 2, 3, 4, 5, 1):
        signals.operation_answered.send(**answered("replayed", operation=f"POST {number}"))
    hits = {name: count for (metric, name, *_), count in grown().items() if metric == "idempotency_hits_total"}
    assert hits == {"POST 1": 2, "POST 2": 1, "POST 3": 1, "other": 2}


@pytest.mark.django_db
def test_secrets_of_the_facts_are_in_no_metric(grown: Delta) -> None:
    signals.operation_answered.send(**answered("executed", key="canary-4f1d", body="canary-4f1d"))
    signals.operation_fenced.send(**attempted())
    signals.decision_made.send(**decided(action="rewound"))
    shown = show().content.decode()
    assert 'idempotency_decisions_total{action="rewound"' in shown
    assert [secret for secret in (*SECRETS, DIGEST[:4].hex(), "user:alice") if secret in shown] == []


def show(**headers: str) -> Any:
    return prometheus.metrics(RequestFactory().get("/metrics", headers=headers))


@pytest.mark.django_db
def test_the_view_speaks_the_format_that_is_asked_for(grown: Delta) -> None:
    signals.operation_answered.send(**answered("replayed"))
    plain, modern = show(), show(Accept="application/openmetrics-text; version=1.0.0")
    assert plain["Content-Type"].startswith("text/plain; version=0.0.4")
    assert modern["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.content.endswith(b"# EOF\n")
    assert prometheus.metrics(RequestFactory().post("/metrics")).status_code == 405


def test_a_database_that_is_gone_takes_no_counter_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone() -> Any:
        raise DatabaseError("gone")

    monkeypatch.setattr("django_idempotency.stores.standing.standings", gone)
    monkeypatch.setattr(prometheus, "registered", tuple)
    with caplog.at_level(logging.ERROR):
        assert list(prometheus.StandingCollector().collect()) == []
    assert "cannot be told" in caplog.text

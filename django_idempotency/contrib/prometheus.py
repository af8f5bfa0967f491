"""Prometheus: counters and durations of what was answered, and what waits in the database at the time of a scrape.

``INSTALLED_APPS += ["django_idempotency.contrib.prometheus.PrometheusConfig"]`` counts, and
``path("metrics", django_idempotency.contrib.prometheus.metrics)`` shows. Where a server has several processes, set
``PROMETHEUS_MULTIPROC_DIR`` before they start.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from threading import Lock
from typing import Any

from django.apps import AppConfig
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from django_idempotency import signals
from django_idempotency.audit.commits import after_commit, at_once, when_true
from django_idempotency.conf import settings
from django_idempotency.gauges import Board, registered

logger = logging.getLogger("django_idempotency")

OTHER = "other"
_ROWS = frozenset({"inserted", "updated", "unchanged", "stale"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class PrometheusConfig(AppConfig):
    """Counts from the start of Django on."""

    name = "django_idempotency.contrib.prometheus"
    label = "idempotency_prometheus"
    verbose_name = _("Idempotency metrics")

    def ready(self) -> None:
        """Listen; show what waits wherever the default registry is shown."""
        connect()
        if not _is_multiprocess():
            REGISTRY.register(StandingCollector())


class Meters:
    """The metrics. Labels have few values: never a key, a digest or a scope."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self.hits = counter("idempotency_hits_total", "Operations answered by an earlier outcome.", "operation")
        self.misses = counter("idempotency_misses_total", "Operations that had to run.", "operation")
        self.claims = counter("idempotency_claims_total", "Answers, by outcome.", "layer", "operation", "outcome")
        self.rows = counter("idempotency_upsert_rows_total", "Rows of upserts, by what they met.", "model", "status")
        self.dedup = counter("idempotency_dedup_total", "Payloads shown to dedup windows.", "window", "outcome")
        self.taken_over = counter("idempotency_taken_over_total", "Attempts in place of one that broke off.", "layer")
        self.fenced = counter("idempotency_fenced_total", "Attempts that came too late to complete.", "layer")
        self.decisions = counter("idempotency_decisions_total", "What operators did by hand.", "layer", "action")
        self.purged = counter("idempotency_purged_total", "Rows deleted because their time was over.", "table")
        self.duration = Histogram(
            "operation_duration_seconds",
            "How long operations ran.",
            ["operation"],
            buckets=_BUCKETS,
            registry=registry,
        )


class Names:
    """The names of operations as label values, so many at most in this process; whatever comes later is ``other``."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, operation: str) -> str:
        """Return the name, or ``other``."""
        if operation not in self._known:
            if len(self._known) >= settings.METRICS_MAX_OPERATIONS:
                return OTHER
            self._known.add(operation)
        return operation


_lock = Lock()
_meters: Meters | None = None
_names = Names()


def meters() -> Meters:
    """Return the metrics, which are made and registered when the first fact is counted."""
    global _meters
    if _meters is None:
        with _lock:
            _meters = _meters or Meters()
    return _meters


def connect() -> None:
    """Count from now on."""
    for signal, listener in _LISTENERS:
        signal.connect(listener, dispatch_uid="idempotency metrics")


def disconnect() -> None:
    """Count no longer."""
    for signal, _listener in _LISTENERS:
        signal.disconnect(dispatch_uid="idempotency metrics")


def count_answered(
    *, using: str | None, layer: str, operation: str, outcome: str, duration: float | None = None, **facts: Any
) -> None:
    """Count an answer."""
    when_true(using, outcome, partial(_count, layer, operation, {outcome: 1}, duration))


def count_batch(
    *,
    using: str | None,
    layer: str,
    operation: str,
    counts: dict[str, int],
    duration: float | None = None,
    **facts: Any,
) -> None:
    """Count what a batch came to."""
    after_commit(using, partial(_count, layer, operation, dict(counts), duration))


def count_taken_over(*, using: str | None, layer: str, **facts: Any) -> None:
    """Count an attempt that has taken over."""
    after_commit(using, lambda: meters().taken_over.labels(layer).inc())


def count_fenced(*, layer: str, **facts: Any) -> None:
    """Count an attempt that came too late; its transaction is the one that does not commit."""
    at_once(lambda: meters().fenced.labels(layer).inc())


def count_released(**facts: Any) -> None:
    """Count a key that an operator has freed."""
    count_decision(action="released", **facts)


def count_resolved(*, is_done: bool, **facts: Any) -> None:
    """Count an operation of which an operator has said what came of it."""
    count_decision(action="resolved_done" if is_done else "resolved_not_done", **facts)


def count_decision(*, using: str | None, layer: str, action: str, **facts: Any) -> None:
    """Count what somebody did by hand."""
    after_commit(using, lambda: meters().decisions.labels(layer, action).inc())


def count_purged(*, using: str | None, table: str, count: int, **facts: Any) -> None:
    """Count rows that were deleted."""
    after_commit(using, lambda: meters().purged.labels(table).inc(count))


_LISTENERS = (
    (signals.operation_answered, count_answered),
    (signals.batch_answered, count_batch),
    (signals.operation_taken_over, count_taken_over),
    (signals.operation_fenced, count_fenced),
    (signals.operation_released, count_released),
    (signals.operation_resolved, count_resolved),
    (signals.decision_made, count_decision),
    (signals.rows_purged, count_purged),
)


def _count(layer: str, operation: str, counts: dict[str, int], duration: float | None) -> None:
    name = _names.label(operation)
    for outcome, count in counts.items():
        for counter in _counters(layer, name, outcome):
            counter.inc(count)
    if duration is not None:
        _durations(name).observe(duration)


# Both are asked for with each request, and a look-up by labels costs more than to count.
@cache
def _durations(name: str) -> Histogram:
    return meters().duration.labels(name)


@cache
def _counters(layer: str, name: str, outcome: str) -> tuple[Counter, ...]:
    """Return what an outcome is counted by."""
    made = meters()
    if outcome in _ROWS:
        return (made.rows.labels(name, outcome),)
    # Both exist from the first on: a rate of one without the other would be a rate of nothing.
    hits, misses = made.hits.labels(name), made.misses.labels(name)
    counters = [made.claims.labels(layer, name, outcome)]
    if layer == "writes":
        counters.append(made.dedup.labels(name, outcome))
    if outcome == "replayed":
        counters.append(hits)
    elif outcome in ("executed", "failed"):
        counters.append(misses)
    return tuple(counters)


class StandingCollector(Collector):
    """What the databases hold, looked up at each scrape. Where that fails, it is logged and left out."""

    def describe(self) -> Iterable[Metric]:
        """Return nothing: to be registered must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield gauges."""
        yield from _looked_up("records", _record_gauges)
        for board in registered():
            yield from _looked_up(board.name, partial(_board_gauges, board))


def _looked_up(what: str, look: Callable[[], list[Metric]]) -> list[Metric]:
    """Return gauges, none where the database cannot tell them."""
    try:
        return look()
    except DatabaseError:
        logger.exception("The standing of the %s cannot be told", what)
        return []


def _record_gauges() -> list[Metric]:
    from django_idempotency.stores.standing import standings  # models can be imported only now

    records = GaugeMetricFamily(
        "idempotency_records", "Records; on PostgreSQL about so many completed.", labels=["database", "status"]
    )
    stuck = GaugeMetricFamily("idempotency_stuck_records", "Leases that have lapsed.", labels=["database"])
    oldest = GaugeMetricFamily(
        "idempotency_oldest_waiting_seconds", "Age of the oldest not completed.", labels=["database", "status"]
    )
    lag = GaugeMetricFamily("idempotency_purge_lag_seconds", "Time past the oldest expiry.", labels=["database"])
    for standing in standings():
        for status, count in standing.records.items():
            records.add_metric([standing.database, status], count)
        for status, age in standing.oldest_waiting.items():
            oldest.add_metric([standing.database, status], age)
        stuck.add_metric([standing.database], standing.stuck)
        lag.add_metric([standing.database], standing.purge_lag)
    return [records, stuck, oldest, lag]


def _board_gauges(board: Board) -> list[Metric]:
    families = {
        gauge: GaugeMetricFamily(f"idempotency_{gauge.name}", gauge.text, labels=["database", *gauge.labels])
        for gauge in board.gauges
    }
    for alias, reading in board.readings():
        families[reading.gauge].add_metric([alias, *reading.values], reading.value)
    return list(families.values())


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Show the metrics of all processes of this server. Whoever may see them is for the URLconf or a proxy to say."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_shown()), content_type=content_type)


def _shown() -> CollectorRegistry:
    if not _is_multiprocess():
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(StandingCollector())
    return registry


def _is_multiprocess() -> bool:
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ

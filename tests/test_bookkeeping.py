"""The books: what was counted aside is written down once, and hours are summed up without loss or double count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Sum
from django.test import override_settings
from django.utils import timezone

from django_idempotency.audit.draining import append_tallies
from django_idempotency.audit.models import AuditEvent
from django_idempotency.audit.rollups import DURATION_BOUNDS, Rollup
from django_idempotency.bookkeeping import close_books
from django_idempotency.models import Record
from django_idempotency.stores import get_store
from tests.callers import Caller, new_key
from tests.campaigns.harness import eventually
from tests.campaigns.redis_faults import patiently_cached
from tests.conformance.views_responses import impatient, in_flight, scripted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.conformance.urls_redis")]


def sums() -> dict[str, int]:
    rows = Rollup.objects.values("outcome").annotate(total=Sum("count")).order_by()
    return {row["outcome"]: row["total"] for row in rows}


def traffic(alice: Caller) -> dict[str, int]:
    """Send requests of each kind and return what the client has counted."""
    told: Counter[str] = Counter()
    with scripted():
        for _ in range(3):
            key = new_key()
            for _ in range(3):
                replayed = alice.post("/required/", key=key).has_header("Idempotent-Replayed")
                told["replayed" if replayed else "executed"] += 1
            assert alice.post("/required/", {"amount": 4}, key=key).status_code == 422
            told["mismatch"] += 1
        assert alice.post("/required/").status_code == 400
        assert alice.post("/required/", key='"').status_code == 400
        told["rejected"] += 2
    key = new_key()
    with in_flight(alice, "/required/", key=key) as flight:
        with impatient():
            assert alice.post("/required/", key=key).status_code == 409
        flight.land()
    told.update(executed=1, in_progress=1)
    with scripted(broken):
        assert alice.post("/required/", key=new_key()).status_code == 500
    told["failed"] += 1
    return dict(told)


def broken(request: Any) -> Any:
    raise ArithmeticError


@pytest.fixture(params=["database", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "database":
        yield request.param
        return
    with patiently_cached():
        yield request.param


def expire_all() -> None:
    Record.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def test_the_sums_are_what_the_client_has_counted(alice: Caller, store: str) -> None:
    told = traffic(alice)
    closing = close_books("default")
    assert closing.drained == (7 if store == "redis" else 0)  # 6 replays and a request in flight
    assert sums() == told
    assert close_books("default").drained == 0
    assert sums() == told


@pytest.mark.parametrize("is_summed_before", [False, True])
def test_what_is_purged_stays_in_the_books(alice: Caller, store: str, is_summed_before: bool) -> None:
    told = traffic(alice)
    if is_summed_before:
        close_books("default")
    expire_all()
    assert sum(get_store().purge(batch_size=2)) == told["executed"]
    close_books("default")
    assert sums() == told
    assert AuditEvent.objects.filter(event="executed").count() == told["executed"]


@override_settings(IDEMPOTENCY_AUDIT_TTL=timedelta(days=7))
def test_the_audit_of_an_execution_is_what_its_record_was(alice: Caller) -> None:
    with scripted():
        alice.post("/required/", key=new_key())
    record = Record.objects.get()
    expire_all()
    list(get_store().purge(batch_size=2))
    event = AuditEvent.objects.get()
    assert (event.at, event.status, event.duration) == (record.completed_at, 201, record.duration)
    for name in ("operation", "scope", "digest", "fingerprint", "outcome_hash", "attempt"):
        assert getattr(event, name) == getattr(record, name)


@pytest.mark.parametrize("path", ["/required/", "/leased/"])
def test_a_key_that_is_used_anew_leaves_its_first_execution_in_the_books(alice: Caller, store: str, path: str) -> None:
    key = new_key()
    with scripted() as script:
        alice.post(path, key=key)
        expire_all()
        if store == "redis":
            get_store().redis.client.flushdb()  # type: ignore[attr-defined]
        alice.post(path, key=key)
    close_books("default")
    assert (script.calls, sums()) == (2, {"executed": 2})
    assert Record.objects.count() == AuditEvent.objects.filter(event="executed").count() == 1


def test_sums_do_not_shrink_when_events_are_purged(alice: Caller) -> None:
    told = traffic(alice)
    close_books("default")
    assert list(AuditEvent.objects.purge(before=timezone.now()))
    close_books("default")
    assert sums() == told


def test_durations_are_summed_up_by_class(alice: Caller) -> None:
    with scripted():
        for _ in range(3):
            alice.post("/required/", key=new_key())
    Record.objects.update(duration=0.02)
    Record.objects.filter(pk=Record.objects.latest("pk").pk).update(duration=100)
    close_books("default")
    row = Rollup.objects.get()
    assert (row.count, row.layer, row.operation, round(row.duration_sum, 6)) == (3, "http", "POST required", 100.04)
    counts = dict(zip([*DURATION_BOUNDS, None], row.durations, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.025: 2, None: 1}


@pytest.mark.parametrize("died", ["before it was written down", "after it was written down"])
def test_a_drain_that_died_loses_nothing_and_counts_nothing_twice(alice: Caller, died: str) -> None:
    with patiently_cached():
        told = traffic(alice)
        counted = 0
        for tallies in get_store().drain():
            if died.startswith("after"):
                append_tallies("default", tallies)
                assert append_tallies("default", tallies) == 0
            counted += 1
            break
        assert counted == 1
        close_books("default")
        assert sums() == told


def test_a_duplicate_that_waited_counts_as_what_it_came_to(alice: Caller) -> None:
    key = new_key()
    with patiently_cached(), in_flight(alice, "/waiting/", key=key) as flight:
        second = flight.join(alice, "/waiting/", key=key)
        eventually(lambda: bool(get_store().redis.client.keys("*tally")), "the duplicate")  # type: ignore[attr-defined]
        flight.land()
        assert second.result(60)["Idempotent-Replayed"] == "true"
        close_books("default")
    assert sums() == {"executed": 1, "replayed": 1}


def test_what_somebody_has_decided_is_no_outcome(alice: Caller) -> None:
    told = traffic(alice)
    for action in ("erased", "expired_now", "exported", "rewound", "promoted", "released", "taken_over"):
        AuditEvent.objects.create(event=action, operation="POST required", at=timezone.now())
    AuditEvent.objects.create(event="unchanged", layer="writes", operation="demo.fact", count=5, at=timezone.now())
    close_books("default")
    assert sums() == {**told, "unchanged": 5}

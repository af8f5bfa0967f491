"""The sums of the audit are what callers have counted, also for runs by force and kept failures."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.db.models import Sum
from django.utils import timezone

from django_idempotency import purging
from django_idempotency.audit.models import AuditEvent
from django_idempotency.audit.rollups import Rollup
from django_idempotency.bookkeeping import close_books
from django_idempotency.exceptions import FingerprintMismatch
from django_idempotency.jobs import JobFailed, run_once
from django_idempotency.jobs.models import JobRun
from django_idempotency.stores.models import Record
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)


@run_once(key="{name}", name="kept failure", on_failed="raise")
def broken(name: str) -> None:
    raise ValueError(name)


def calls() -> dict[str, int]:
    """Make calls of each kind and return what came of them."""
    told: Counter[str] = Counter()
    for _ in range(4):
        tasks.pay("a")
    told.update(executed=1, replayed=3)
    with pytest.raises(FingerprintMismatch):
        tasks.pay("a", 2)
    told["mismatch"] += 1
    tasks.pay.run_again("a", reason="asked for", actor="user:alice")
    told["executed"] += 1
    with pytest.raises(ValueError, match="a"):
        broken("a")
    told["failed"] += 1
    with pytest.raises(JobFailed):
        broken("a")
    told["replayed"] += 1
    with pytest.raises(ValueError, match="expected a number"):
        tasks.pay("b", amount="none")
    told["failed"] += 1
    return dict(told)


def sums() -> dict[str, int]:
    rows = Rollup.objects.filter(layer="jobs").values("outcome").annotate(total=Sum("count")).order_by()
    return {row["outcome"]: row["total"] for row in rows}


def test_the_sums_are_what_callers_have_counted_before_and_after_a_purge() -> None:
    told = calls()
    close_books("default")
    assert sums() == told
    Record.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert purging.purge(pause=0).tables["records"].deleted == 2
    close_books("default")
    assert sums() == told
    assert not Rollup.objects.exclude(layer="jobs").exists()


def test_a_run_by_force_is_told_with_its_reason() -> None:
    tasks.pay("a")
    tasks.pay.run_again("a", reason="asked for", actor="user:alice")
    event = AuditEvent.objects.get(event="run_again")
    assert (event.layer, event.actor, event.attempt) == ("jobs", "user:alice", 2)
    assert event.reason == "asked for (other outcome)"


def test_runs_are_purged_when_their_time_is_over(settings: Any) -> None:
    tasks.pay("a")
    assert purging.count_expired(only=["job_runs"]) == {"job_runs": 0}
    settings.IDEMPOTENCY_JOB_RUNS_TTL = timedelta(microseconds=1)
    assert purging.purge(only=["job_runs"], pause=0).tables["job_runs"].deleted == 1


def test_runs_are_not_deleted_otherwise() -> None:
    tasks.pay("a")
    with pytest.raises(TypeError):
        JobRun.objects.all().delete()
    with pytest.raises(TypeError):
        JobRun.objects.get().delete()


def test_where_keys_are_not_kept_neither_table_has_them(settings: Any) -> None:
    settings.IDEMPOTENCY_STORE_KEYS = "digest"
    tasks.pay("a")
    tasks.pay("a")
    assert JobRun.objects.get().key == Record.objects.get().key == ""


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "statement", ["UPDATE idempotency_jobrun SET status = 'failed'", "DELETE FROM idempotency_jobrun"]
)
def test_closed_runs_are_changed_by_no_sql(statement: str) -> None:
    tasks.pay("a")
    with connection.cursor() as cursor, pytest.raises(IntegrityError, match="idempotency_jobrun is append-only"):
        cursor.execute(statement)
    assert JobRun.objects.get().status == "executed"

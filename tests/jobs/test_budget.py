"""What a job costs, in statements and commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_idempotency.audit.models import AuditEvent
from django_idempotency.jobs import Run, run_once
from tests.jobs import tasks
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)


def statements(call: Callable[[], Any]) -> list[str]:
    """Return the first word of each statement, BEGIN and COMMIT among them."""
    with CaptureQueriesContext(connection) as queries:
        call()
    words = [query["sql"].split()[0] for query in queries.captured_queries]
    return [word for word in words if word not in ("RELEASE", "SAVEPOINT", "PRAGMA")]


def cost(call: Callable[[], Any]) -> tuple[int, int]:
    """Return how many statements there are beside BEGIN and COMMIT, and how many commits."""
    words = statements(call)
    counted = [word for word in words if word not in ("BEGIN", "COMMIT", "ROLLBACK")]
    begun = words.count("BEGIN")
    inside, alone = False, 0
    for word in words:
        inside = word == "BEGIN" or (inside and word not in ("COMMIT", "ROLLBACK"))
        alone += not inside and word in ("WITH", "INSERT", "UPDATE", "DELETE")
    return len(counted), begun + alone


def on(postgresql: int, sqlite: int) -> int:
    return postgresql if connection.vendor == "postgresql" else sqlite


def test_a_run_costs_two_statements_and_two_commits_beside_its_own() -> None:
    tasks.pay("warm")
    effect = 1
    assert cost(lambda: tasks.pay("a")) == (effect + on(2, 5), 2)


def test_a_replay_costs_one_statement_beside_the_event_of_the_audit() -> None:
    tasks.pay("a")
    before = AuditEvent.objects.count()
    count, _ = cost(lambda: tasks.pay("a"))
    events = AuditEvent.objects.count() - before
    assert (count, events) == (1 + events, 1)


def test_a_run_that_ends_with_a_transaction_of_its_own_costs_as_much() -> None:
    @run_once(key="{name}", atomic=False)
    def job(name: str, *, run: Run) -> None:
        with run.atomic():
            Payment.objects.create(reference=name, amount=1)

    job("warm")
    assert cost(lambda: job("a")) == (1 + on(2, 5), 2)


def test_a_failure_costs_one_more_commit() -> None:
    @run_once(key="{name}")
    def broken(name: str) -> None:
        raise ZeroDivisionError

    def call() -> None:
        with pytest.raises(ZeroDivisionError):
            broken("a")

    call()
    assert cost(call)[0] == on(3, 5) + 1  # the event of the audit


def test_a_job_that_another_test_has_enclosed_costs_no_more(db: None) -> None:
    assert statements(lambda: tasks.pay("enclosed"))

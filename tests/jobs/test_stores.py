"""Jobs on other stores: Redis in front of the database, and records in no database."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from django_idempotency.exceptions import FingerprintMismatch
from django_idempotency.jobs import enqueue_once
from django_idempotency.jobs.models import JobRun
from tests.campaigns.redis_faults import patiently_cached
from tests.jobs import tasks
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)
MEMORY = {"default": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}}


def examine() -> None:
    values = [tasks.pay("a") for _ in range(3)]
    assert values[0] == values[1] == values[2]
    with pytest.raises(FingerprintMismatch):
        tasks.pay("a", 2)
    with pytest.raises(ValueError, match="expected a number"):
        tasks.pay("b", amount="none")
    tasks.pay("b")
    assert Payment.objects.count() == 2
    assert list(JobRun.objects.order_by("run_id").values_list("status", flat=True)) == [
        "executed",
        "failed",
        "executed",
    ]


def test_redis_in_front_replays_without_a_statement(django_assert_num_queries: Any) -> None:
    with patiently_cached():
        examine()
        with django_assert_num_queries(0):
            tasks.pay("a")
        assert tasks.pay.run_again("a", reason="asked for", actor="user:alice").is_same is False
        assert tasks.pay("a")["id"] == Payment.objects.latest("pk").pk


@override_settings(IDEMPOTENCY_STORES=MEMORY)
def test_records_may_be_in_no_database_as_well_as_that_can_be_done() -> None:
    examine()
    with pytest.raises(TypeError):
        enqueue_once(tasks.pay, ("c",), send=lambda: None)
    with pytest.raises(TypeError):
        tasks.pay.run_again("a", reason="asked for", actor="user:alice")

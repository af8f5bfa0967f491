"""Many processes that call one job with one key at the same time."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from django_idempotency.audit.models import AuditEvent
from django_idempotency.jobs.models import JobRun
from tests.campaigns.harness import TIMEOUT
from tests.jobs.forks import Forks, Order
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("job", ["pay", "pay_in_parts", "apay", "pay_waiting"])
def test_eight_processes_have_one_effect(forks: Forks, job: str) -> None:
    said = [future.result(TIMEOUT) for future in [forks.start(Order(job=job, reference="a")) for _ in range(8)]]
    kinds = Counter("value" if one.startswith("{") else one.partition(":")[0] for one in said)
    assert Payment.objects.filter(reference="a").count() == 1
    assert kinds["value"] + kinds["OperationInProgress"] == 8
    assert len({json.dumps(json.loads(one)) for one in said if one.startswith("{")}) == 1
    assert list(JobRun.objects.values_list("status", flat=True)) == ["executed"]
    if job == "pay_waiting":
        assert kinds["value"] == 8
        assert AuditEvent.objects.filter(event="replayed").count() == 7

"""``idempotency_purge`` deletes what has expired and nothing else."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_idempotency.core.records import Claim
from django_idempotency.models import Record
from django_idempotency.stores import get_store
from django_idempotency.testing import CREATED, make_operation

pytestmark = pytest.mark.django_db(transaction=True)


def keep(*, expired: int = 0, live: int = 0) -> None:
    store = get_store()
    for ttl in [timedelta(0)] * expired + [timedelta(days=1)] * live:
        with store.transaction():
            claim = store.claim(make_operation())
            assert isinstance(claim, Claim)
            store.complete(claim, CREATED, ttl=ttl)


def purge(*arguments: str) -> Any:
    output = StringIO()
    call_command("idempotency_purge", *arguments, stdout=output, stderr=StringIO())
    return json.loads(output.getvalue()) if "--json" in arguments else output.getvalue()


def test_it_deletes_expired_records_in_batches() -> None:
    keep(expired=5, live=2)
    assert purge("--json", "--batch-size=2", "--pause=0") == {"deleted": 5, "batches": 3, "complete": True}
    assert Record.objects.count() == 2


def test_a_dry_run_only_counts() -> None:
    keep(expired=3, live=1)
    assert purge("--json", "--dry-run") == {"expired": 3, "deleted": 0, "complete": False}
    assert purge("--dry-run") == "3 expired records would be deleted.\n"
    assert Record.objects.count() == 4


def test_it_stops_when_its_time_is_up() -> None:
    keep(expired=3)
    assert purge("--json", "--batch-size=1", "--max-seconds=0") == {"deleted": 1, "batches": 1, "complete": False}
    assert "Time is up" in purge("--batch-size=1", "--max-seconds=0")
    assert Record.objects.count() == 1


def test_it_says_what_it_did() -> None:
    keep(expired=2)
    assert purge() == "2 expired records deleted in 1 batches.\n"
    assert purge() == "0 expired records deleted in 0 batches.\n"


@pytest.mark.parametrize("argument", ["--batch-size=0", "--pause=-1", "--max-seconds=-1", "--store=elsewhere"])
def test_a_senseless_argument_is_an_error(argument: str) -> None:
    keep(expired=1)
    with pytest.raises(CommandError):
        purge(argument)
    assert Record.objects.count() == 1

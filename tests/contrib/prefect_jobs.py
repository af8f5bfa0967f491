"""Tasks and flows of Prefect: jobs, an import of facts, and what is guarded by a lock alone."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import INPUTS, NO_CACHE
from prefect.transactions import IsolationLevel

from django_idempotency.contrib.prefect import LedgerLockManager
from django_idempotency.jobs import run_once
from django_idempotency.writes import upsert
from tests.contrib.killing import effect, faulty, install
from tests.models import Fact

LEASE = timedelta(seconds=1)


class ToldLocks(LedgerLockManager):
    """Locks that tell by a file who has tried to take one."""

    def _take(self, key: str, holder: str, hold_timeout: float | None) -> bool:
        taken = super()._take(key, holder, hold_timeout)
        Path(os.environ["TRIALS"], holder).touch()
        return taken


LOCKS = ToldLocks(lease=timedelta(seconds=1))
BY_REFERENCE = INPUTS - "fault"

install()


@task(cache_policy=NO_CACHE)
@faulty
@run_once(key="payment:{reference}", name="pay", lease=LEASE, on_running="wait")
def pay(reference: str, amount: int = 1) -> int:
    return effect(reference, amount)


@flow
def paying(reference: str, fault: str = "") -> int:
    return pay(reference, fault=fault)


@task(cache_policy=NO_CACHE, retries=3)
@run_once(key="fact:{row[id]}", name="upsert_row", keep=timedelta(days=30))
def upsert_row(row: dict[str, Any]) -> dict[str, int]:
    written = upsert(Fact, [{"biz_key": row["id"], "amount": row["amount"], "note": row["note"]}], key="biz_key")
    return {outcome: count for outcome, count in written.counts.items() if count}


@flow
def loading(rows: list[dict[str, Any]]) -> list[dict[str, int]]:
    return [upsert_row(row) for row in rows]


@task(
    cache_policy=BY_REFERENCE.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=LOCKS),
    persist_result=True,
)
@faulty
def pay_under_a_lock(reference: str) -> int:
    """Is no job: what excludes its runs is the lock of Prefect's transaction."""
    return effect(reference, 1)


@flow
def paying_under_a_lock(reference: str, fault: str = "") -> int:
    return pay_under_a_lock(reference, fault=fault)

"""The locks of Prefect's transactions, as Prefect calls them; ``test_prefect_flows.py`` has Prefect do so."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.models.functions import Now

from django_idempotency import purging
from django_idempotency.contrib.prefect import LedgerLockManager, lapsed_locks, locks
from django_idempotency.models import Record
from tests.callers import new_key
from tests.campaigns.harness import ROOT, database_url, eventually

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = timedelta(seconds=1)


@pytest.fixture
def manager() -> Iterator[LedgerLockManager]:
    yield LedgerLockManager(lease=LEASE)
    assert not locks("default").filter(lease_expires_at__gt=Now()).exists(), "a lock is held by nobody"


def test_one_holds_it_until_it_is_released(manager: LedgerLockManager) -> None:
    key = new_key()
    assert not manager.is_locked(key)
    assert manager.acquire_lock(key, "a")
    assert manager.acquire_lock(key, "a"), "who holds it may take it again"
    assert not manager.acquire_lock(key, "b", acquire_timeout=0)
    assert (manager.is_locked(key), manager.is_lock_holder(key, "a")) == (True, True)
    assert not manager.is_lock_holder(key, "b")
    manager.release_lock(key, "a")
    assert not manager.is_locked(key)
    assert manager.acquire_lock(key, "b", acquire_timeout=0)
    manager.release_lock(key, "b")
    assert not Record.objects.filter(key=key).exists()


def test_who_does_not_hold_it_cannot_release_it(manager: LedgerLockManager) -> None:
    key = new_key()
    manager.acquire_lock(key, "a")
    with pytest.raises(ValueError, match="No lock held by b"):
        manager.release_lock(key, "b")
    assert manager.is_lock_holder(key, "a")
    manager.release_lock(key, "a")
    with pytest.raises(ValueError, match="No lock held by a"):
        manager.release_lock(key, "a")


def test_of_many_that_want_it_each_has_it_alone(manager: LedgerLockManager) -> None:
    key = new_key()
    inside: list[str] = []
    most = []

    def hold(holder: str) -> None:
        try:
            assert manager.acquire_lock(key, holder)
            inside.append(holder)
            most.append(len(inside))
            inside.remove(holder)
            manager.release_lock(key, holder)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(hold, map(str, range(24))))
    assert most == [1] * 24


def test_waiting_ends_with_the_lock_or_with_the_time(manager: LedgerLockManager) -> None:
    key = new_key()
    assert manager.wait_for_lock(key)
    manager.acquire_lock(key, "a")
    assert not manager.wait_for_lock(key, timeout=0.05)
    assert not manager.acquire_lock(key, "b", acquire_timeout=0.05)
    with ThreadPoolExecutor(1) as pool:

        def wait() -> bool:
            try:
                return manager.wait_for_lock(key)
            finally:
                connections.close_all()

        waiting = pool.submit(wait)
        manager.release_lock(key, "a")
        assert waiting.result(10)


def test_it_is_renewed_while_its_process_lives(manager: LedgerLockManager) -> None:
    key = new_key()
    manager.acquire_lock(key, "a")
    (taken,) = locks("default").filter(key=key)
    assert taken.lease_expires_at
    end = taken.lease_expires_at + LEASE

    def is_renewed() -> bool:
        return locks("default").filter(key=key, lease_expires_at__gt=end).exists()

    eventually(is_renewed, "a lock that is older than its lease")
    assert manager.is_lock_holder(key, "a")
    manager.release_lock(key, "a")


def test_with_a_hold_timeout_it_is_not_renewed_and_who_had_it_does_not_disturb_who_has_it(
    manager: LedgerLockManager,
) -> None:
    key = new_key()
    manager.acquire_lock(key, "a", hold_timeout=0.05)
    assert manager.wait_for_lock(key, timeout=10)
    assert not manager.is_lock_holder(key, "a")
    assert manager.acquire_lock(key, "b")
    assert (manager.is_lock_holder(key, "a"), manager.is_lock_holder(key, "b")) == (False, True)
    manager.release_lock(key, "a")
    assert manager.is_lock_holder(key, "b")
    manager.release_lock(key, "b")


DIE = """
import os, sys, time
import django; django.setup()
from datetime import timedelta
from django_idempotency.contrib.prefect import LedgerLockManager
LedgerLockManager(lease=timedelta(seconds=1)).acquire_lock(sys.argv[1], "dead")
print(flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_dead_process_is_free_within_its_lease_and_a_second(manager: LedgerLockManager) -> None:
    key = new_key()
    environment = {
        **os.environ,
        "DATABASE_URL": database_url({}),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", DIE, key]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert not manager.acquire_lock(key, "b", acquire_timeout=0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        died = time.monotonic()
    assert manager.acquire_lock(key, "b")
    assert time.monotonic() - died < LEASE.total_seconds() + 1
    manager.release_lock(key, "b")


def test_the_purge_takes_what_the_dead_have_left(manager: LedgerLockManager) -> None:
    lapsed, live = new_key(), new_key()
    manager.acquire_lock(lapsed, "a", hold_timeout=0.01)
    manager.acquire_lock(live, "a")
    eventually(lapsed_locks("default").exists, "a lapsed lock")
    assert purging.purge(only=["prefect_locks"]).as_json()["tables"]["prefect_locks"]["deleted"] == 1
    assert list(locks("default").values_list("key", flat=True)) == [live]
    manager.release_lock(live, "a")
    manager.release_lock(lapsed, "a")


def test_an_event_loop_is_not_kept_waiting(manager: LedgerLockManager) -> None:
    key = new_key()

    async def take_turns() -> list[bool]:
        assert await manager.aacquire_lock(key, "a")
        waiting = asyncio.create_task(manager.await_for_lock(key))
        other = asyncio.create_task(manager.aacquire_lock(key, "b"))
        told = [
            await manager.await_for_lock(key, timeout=0.05),
            await manager.aacquire_lock(key, "c", acquire_timeout=0),
            manager.is_lock_holder(key, "a"),  # which Prefect calls in the loop
        ]
        manager.release_lock(key, "a")
        told += [await other]
        manager.release_lock(key, "b")
        return [*told, await waiting]

    assert asyncio.run(take_turns()) == [False, False, True, True, True]


def test_it_does_not_depend_on_the_transaction_that_is_open(manager: LedgerLockManager) -> None:
    key = new_key()
    if connections["default"].vendor == "sqlite":
        pytest.skip("on SQLite, an open transaction keeps every other writer out")
    with suppress(RuntimeError), transaction.atomic():
        assert manager.acquire_lock(key, "a")
        raise RuntimeError
    assert manager.is_lock_holder(key, "a")
    manager.release_lock(key, "a")


def test_copies_are_equal_and_know_the_same_locks(manager: LedgerLockManager) -> None:
    key, other = new_key(), copy.deepcopy(manager)
    assert other == manager
    manager.acquire_lock(key, "a")
    assert other.is_lock_holder(key, "a")
    other.release_lock(key, "a")


def test_keys_may_be_long(manager: LedgerLockManager) -> None:
    keys = ["k" * 300, "k" * 301]
    assert all(manager.acquire_lock(key, "a") for key in keys)
    for key in keys:
        manager.release_lock(key, "a")


def test_a_store_that_is_no_database_keeps_no_locks(settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}}
    with pytest.raises(ImproperlyConfigured, match="is no database"):
        LedgerLockManager().acquire_lock("key", "a")

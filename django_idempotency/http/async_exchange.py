"""The exchange of an asynchronous view: under a lease, since Django has no asynchronous transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_idempotency.conf import settings
from django_idempotency.core import attempts
from django_idempotency.core.attempts import Attempt, Execution
from django_idempotency.core.heartbeats import heartbeats
from django_idempotency.core.leased_runs import LeasedRun
from django_idempotency.core.leases import Lease, LeaseTerms
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import OperationInProgress
from django_idempotency.http.exchange import lease_terms, waiting_room
from django_idempotency.http.operations import wait_of
from django_idempotency.stores import get_store

Run = Callable[[Claim], Awaitable[Attempt[HttpResponseBase]]]
Result = Execution[HttpResponseBase]

_PAUSE = 0.05
_running: set[asyncio.Task[Any]] = set()


async def aperform(request: HttpRequest, operation: Operation, policy: Policy, run: Run) -> Result:
    """Execute the operation of a request, or find its outcome. Raises IdempotencyError and whatever ``run`` raises.

    A client that goes away does not end the run: it goes on by itself until its outcome is kept.
    """
    task = asyncio.ensure_future(_perform(request, operation, policy, run))
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_retrieve)
        raise


async def _perform(request: HttpRequest, operation: Operation, policy: Policy, run: Run) -> Result:
    leased: LeasedRun[HttpResponseBase] = LeasedRun(
        store=get_store(policy.store),
        operation=operation,
        terms=lease_terms(policy) or LeaseTerms(),
        ttl=policy.ttl or settings.ttl,
    )
    begun = await _begin(leased, wait_of(request, policy).total_seconds())
    if isinstance(begun, Record):
        return attempts.replay(begun, operation)
    return await _run(request, leased, replace(begun, in_thread=_in_thread), run)


async def _begin(leased: LeasedRun[HttpResponseBase], wait: float) -> Lease | Record:
    """Begin within the time that the client or the policy grants."""
    try:
        return await sync_to_async(leased.begin)()
    except OperationInProgress:
        if not wait:
            raise
    with waiting_room().seat() as seated:
        deadline = time.monotonic() + (wait if seated else 0)
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                return await sync_to_async(leased.begin)()
            except OperationInProgress:
                if time.monotonic() >= deadline:
                    raise


async def _run(request: Any, leased: LeasedRun[HttpResponseBase], lease: Lease, run: Run) -> Result:
    request.idempotency = lease
    try:
        with heartbeats.keep(leased.store, lease, leased.terms):
            try:
                return await sync_to_async(leased.settle)(lease, await run(lease))
            except BaseException as error:
                await sync_to_async(leased.break_off)(lease, error)
                raise
    finally:
        request.idempotency = None


async def _in_thread(call: Callable[[], Any]) -> Any:
    return await sync_to_async(call)()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()

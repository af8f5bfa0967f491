"""The exchange of an asynchronous view: under a lease, since Django has no asynchronous transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_idempotency.conf import settings
from django_idempotency.core import attempts
from django_idempotency.core.attempts import Attempt, Execution
from django_idempotency.core.heartbeats import heartbeats
from django_idempotency.core.leased_runs import LeasedRun
from django_idempotency.core.leases import Lease
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Claim, Operation, Record
from django_idempotency.exceptions import OperationInProgress
from django_idempotency.http.announcements import Announcer
from django_idempotency.http.exchange import check_replay, lease_terms, waiting_room
from django_idempotency.http.operations import wait_of
from django_idempotency.http.protection import opened, prepare, sealed
from django_idempotency.stores import get_store

T = TypeVar("T")
Run = Callable[[Claim], Awaitable[Attempt[HttpResponseBase]]]
Result = Execution[HttpResponseBase]

_PAUSE = 0.05
_running: set[asyncio.Task[Any]] = set()


async def aperform(request: HttpRequest, operation: Operation, policy: Policy, run: Run) -> Result:
    """Execute the operation of a request, or find its outcome. Raises IdempotencyError and whatever ``run`` raises.

    A client that goes away does not end the run: it goes on until its outcome is kept, and the request ends after it.
    """
    task = asyncio.ensure_future(_perform(request, operation, policy, run))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        farewell = asyncio.ensure_future(_see_off(task))
        _running.add(farewell)
        farewell.add_done_callback(_running.discard)
        # The end of the request closes the connections of its thread: none must be opened there later on. A server that
        # does not want to wait cancels once more.
        await asyncio.shield(farewell)
        raise


async def _see_off(task: asyncio.Task[Result]) -> None:
    """Wait for a run whose client is gone, and close what it has opened, maybe in a thread that no request ends in."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
    await _in_thread(_close_connections)


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


async def _perform(request: HttpRequest, operation: Operation, policy: Policy, run: Run) -> Result:
    announcer = Announcer(operation, policy, partial(check_replay, request, policy))
    leased: LeasedRun[HttpResponseBase] = LeasedRun(
        store=get_store(policy.store),
        operation=operation,
        terms=lease_terms(policy),
        ttl=policy.ttl or settings.ttl,
        witness=announcer,
    )

    async def run_sealed(claim: Claim) -> Attempt[HttpResponseBase]:
        prepare(claim, policy)
        ended = sealed(await run(claim), operation, policy)
        assert isinstance(ended, Attempt)  # an asynchronous run is undone by nobody
        return ended

    try:
        begun = await _begin(leased, wait_of(request, policy).total_seconds())
        if isinstance(begun, Record):
            return opened(await _in_thread(partial(attempts.replay, begun, operation, announcer)), operation)
        announcer.claim = begun
        return await _run(request, leased, replace(begun, in_thread=_in_thread), run_sealed, announcer)
    except BaseException as error:
        await _in_thread(partial(announcer.refused, error))
        raise


async def _begin(leased: LeasedRun[HttpResponseBase], wait: float) -> Lease | Record:
    """Begin within the time that the client or the policy grants."""
    try:
        return await _in_thread(leased.begin)
    except OperationInProgress:
        if not wait:
            raise
    with waiting_room().seat() as seated:
        deadline = time.monotonic() + (wait if seated else 0)
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                return await _in_thread(leased.begin)
            except OperationInProgress:
                if time.monotonic() >= deadline:
                    raise


async def _run(
    request: Any, leased: LeasedRun[HttpResponseBase], lease: Lease, run: Run, announcer: Announcer
) -> Result:
    def settle(ended: Attempt[HttpResponseBase]) -> Result:
        result = leased.settle(lease, ended)
        announcer.answered(result)
        return result

    request.idempotency = lease
    try:
        with heartbeats.keep(leased.store, lease, leased.terms):
            try:
                ended = await run(lease)
                return await _in_thread(partial(settle, ended))
            except BaseException as error:
                failure = error
                await _in_thread(lambda: leased.break_off(lease, failure))
                raise
    finally:
        request.idempotency = None


async def _in_thread(call: Callable[[], T]) -> T:
    """Run a call in the thread of the request, in another one where that has ended because the client has gone."""
    has_begun = False

    def begin() -> T:
        nonlocal has_begun
        has_begun = True
        return call()

    try:
        return await sync_to_async(begin)()
    except RuntimeError:
        if has_begun:
            raise
    return await sync_to_async(partial(_apart, call), thread_sensitive=False)()


def _apart(call: Callable[[], T]) -> T:
    try:
        return call()
    finally:
        _close_connections()

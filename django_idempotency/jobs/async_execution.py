"""One call of a coroutine function: the same decisions, each in the thread of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from django_idempotency.core.heartbeats import heartbeats
from django_idempotency.core.leases import Lease
from django_idempotency.core.records import Record
from django_idempotency.exceptions import OperationInProgress
from django_idempotency.jobs.definitions import Job
from django_idempotency.jobs.execution import Call, Skipped
from django_idempotency.jobs.runs import Run

T = TypeVar("T")


async def aperform(job: Job, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a job. Raises IdempotencyError and whatever its function raises."""
    call = await _in_thread(partial(Call.of, job, args, kwargs))
    try:
        return await acarry_out(call)
    except Skipped:
        return None


async def acarry_out(call: Call) -> Any:
    """Run, or find the value. Raises Skipped, IdempotencyError and whatever the function raises."""
    try:
        begun = await _begin(call)
        if isinstance(begun, Record):
            return await _in_thread(partial(call.replayed, begun))
        return await _run(call, call.run_of(replace(begun, in_thread=_in_thread)))
    except BaseException as error:
        told = error.__cause__ if isinstance(error, Skipped) and error.__cause__ else error
        await _in_thread(partial(call.refused, told))
        raise


async def _begin(call: Call) -> Lease | Record:
    try:
        return await _await_turn(call)
    except OperationInProgress as error:
        call.give_way(error)
        raise


async def _await_turn(call: Call) -> Lease | Record:
    for pause in call.pauses():
        try:
            return await _in_thread(call.begin)
        except OperationInProgress:
            await asyncio.sleep(pause)
    return await _in_thread(call.begin)


async def _run(call: Call, run: Run) -> Any:
    with heartbeats.keep(call.ledger, run.lease, call.leased.terms):
        try:
            value = await call.invoke(run)
            value = await _in_thread(partial(call.settle, run, value))
        except BaseException as error:
            await _in_thread(partial(_break_off, call, run, error))
            raise
    await _in_thread(partial(call.told, run))
    return value


def _break_off(call: Call, run: Run, error: BaseException) -> None:
    call.told(run)
    try:
        call.settle_failure(run, error)
    finally:
        call.leased.break_off(run.lease, error)


async def _in_thread(call: Callable[[], T]) -> T:
    return await sync_to_async(call)()

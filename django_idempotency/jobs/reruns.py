"""Jobs that are run again by force, although they have succeeded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from django_idempotency.exceptions import OperationInProgress
from django_idempotency.jobs.async_execution import acarry_out
from django_idempotency.jobs.definitions import Job
from django_idempotency.jobs.execution import Call, Skipped, carry_out
from django_idempotency.signals import decision_made


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """What came of it. ``is_same`` tells whether the outcome is the one it replaces, None where there was none."""

    value: Any
    run_id: UUID
    is_same: bool | None


def run_again(job: Job, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, reason: str, actor: str) -> Rerun:
    """Run a job whatever came of it before. Its old outcome stays until the new one is committed.

    Raises ValueError without a reason and an actor, OperationInProgress whatever the job says of that, and what a call
    raises.
    """
    call = _forced(job, args, kwargs, reason, actor)
    try:
        value = carry_out(call)
    except Skipped as error:
        raise OperationInProgress from error
    return _told(call, value, reason, actor)


async def arun_again(job: Job, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, reason: str, actor: str) -> Rerun:
    """Do as ``run_again`` does, with a coroutine function."""
    call = await sync_to_async(_forced)(job, args, kwargs, reason, actor)
    try:
        value = await acarry_out(call)
    except Skipped as error:
        raise OperationInProgress from error
    return await sync_to_async(partial(_told, call, value, reason, actor))()


def _forced(job: Job, args: tuple[Any, ...], kwargs: Mapping[str, Any], reason: str, actor: str) -> Call:
    if not (reason and actor):
        raise ValueError("To run a job again needs a reason and an actor.")
    return Call.of(job, args, kwargs, is_forced=True)


def _told(call: Call, value: Any, reason: str, actor: str) -> Rerun:
    previous, claim, key = call.ledger.previous, call.announcer.claim, call.operation.key
    is_same = previous.hash == call.ledger.kept_hash if previous else None
    found = {None: "there was no outcome", True: "same outcome", False: "other outcome"}[is_same]
    decision_made.send(
        type(call.ledger.store),
        using=call.ledger.store.alias,
        layer="jobs",
        action="run_again",
        operation=key.operation,
        scope=key.scope_text,
        digest=key.digest,
        attempt=claim.attempt if claim else 0,
        actor=actor,
        reason=f"{reason} ({found})",
    )
    return Rerun(value=value, run_id=call.run_id, is_same=is_same)

"""How another version takes the place of the live one: one transaction, tried again while others keep the lock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from django.db import DatabaseError, transaction

from django_idempotency.reprocessing import tables
from django_idempotency.reprocessing.clocks import now
from django_idempotency.reprocessing.errors import SwapRefused, SwapTimedOut, WrongState
from django_idempotency.reprocessing.feeding import Feeder, OutOfTime, generations
from django_idempotency.reprocessing.locks import bound, holders, is_conflict, pause
from django_idempotency.reprocessing.models import Generation
from django_idempotency.reprocessing.projections import VersionedProjection
from django_idempotency.reprocessing.swap import Swap, is_by_name, kind_of_swap
from django_idempotency.signals import decision_made

_State = Generation.State


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a swap waits for its lock, how long it may hold it, and how often it tries."""

    lock: timedelta = timedelta(milliseconds=300)
    hold: timedelta = timedelta(seconds=2)
    attempts: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decides, and why."""

    actor: str = ""
    reason: str = ""


def tell_decision(projection: VersionedProjection, action: str, version: int, decision: Decision) -> None:
    """State that somebody has decided about a version, within the transaction that carries it out."""
    decision_made.send(
        sender=type(projection),
        using=projection.using,
        layer="reprocessing",
        operation=projection.name,
        scope=f"v{version}",
        digest=b"",
        action=action,
        actor=decision.actor,
        reason=decision.reason,
    )


class Promoter:
    """Makes versions of one projection live."""

    def __init__(self, projection: VersionedProjection) -> None:
        self._projection, self._alias = projection, projection.using
        self._feeder = Feeder(projection)

    def preview(self, target: Generation) -> Swap:
        """Return the swap as it would be done now."""
        live = generations(self._projection).filter(state=_State.LIVE).first()
        return self._swap(self._adopted(live), target)

    def change(
        self, target: Generation, action: str, decision: Decision, patience: Patience, *, catches_up: bool
    ) -> None:
        """Make a version live; a failed attempt leaves nothing behind. Raises WrongState, SwapRefused, SwapTimedOut."""
        name = self._projection.model._meta.db_table
        for attempt in range(patience.attempts):
            if attempt:
                pause(attempt)
                if catches_up:
                    self._feeder.feed()
            try:
                return self._change_once(target.version, action, decision, patience, catches_up=catches_up)
            except OutOfTime as error:
                cause: Exception = error
            except DatabaseError as error:
                if not is_conflict(error):
                    raise
                cause = error
            blockers = holders(self._alias, name)
        raise SwapTimedOut(
            f"{self._projection.name} is left as it was: {patience.attempts} attempts did not get the lock of {name} "
            f"within {patience.lock.total_seconds():g} s, or were not through in {patience.hold.total_seconds():g} s. "
            f"Try again when long transactions have ended{f'; these hold it now: {blockers}' if blockers else ''}."
        ) from cause

    def _change_once(
        self, version: int, action: str, decision: Decision, patience: Patience, *, catches_up: bool
    ) -> None:
        with transaction.atomic(using=self._alias, durable=True):
            bound(self._alias, lock=patience.lock, statement=patience.hold)
            # All rows of the projection, so that two swaps of it follow one another.
            rows = {row.version: row for row in generations(self._projection).select_for_update().order_by("pk")}
            live = self._adopted(next((row for row in rows.values() if row.state == _State.LIVE), None))
            target = rows[version]
            if target.state not in (_State.BUILT, _State.RETIRED):
                raise WrongState(f"{target} has become {target.state} meanwhile.")
            swap = self._swap(live, target)
            swap.prepare()
            swap.lock()
            if refusals := swap.refusals():
                raise SwapRefused(refusals)
            if catches_up:
                self._catch_up(target, time.monotonic() + patience.hold.total_seconds())
            swap.run()
            self._note(swap, live, target)
            tell_decision(self._projection, action, version, decision)

    def _catch_up(self, target: Generation, deadline: float) -> None:
        """Add what was committed before the lock was got; a build anew costs too much where a later one does."""
        source = self._projection.source
        if source is not None:
            is_last = self._projection.write_through
            self._feeder.feed_at_once(target, source, is_last=is_last, deadline=deadline)
        elif self._projection.write_through:
            self._feeder.feed()

    def _note(self, swap: Swap, live: Generation | None, target: Generation) -> None:
        at = now(self._alias)
        if live:
            live.table, live.state, live.retired_at = swap.retired_table, _State.RETIRED, at
            live.save(using=self._alias)
        changed = {"table": swap.live_table, "state": _State.LIVE, "promoted_at": at}
        generations(self._projection).filter(pk=target.pk).update(**changed)

    def _adopted(self, live: Generation | None) -> Generation | None:
        """Return what is live; a table that had the name before the first version counts as version 0 of it."""
        name = self._projection.model._meta.db_table
        if live or not is_by_name(self._alias, self._projection.strategy) or not tables.exists(self._alias, name):
            return live
        return Generation(
            projection=self._projection.name, version=0, table=name, state=_State.LIVE, created_at=now(self._alias)
        )

    def _swap(self, live: Generation | None, target: Generation) -> Swap:
        return kind_of_swap(self._alias, self._projection.strategy)(
            alias=self._alias,
            name=self._projection.model._meta.db_table,
            old_table=live.table if live else "",
            old_version=live.version if live else 0,
            new_table=target.table,
            new_version=target.version,
            columns=tuple(tables.columns(self._projection.model)),
        )

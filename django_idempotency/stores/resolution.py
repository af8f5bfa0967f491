"""What an operator can do about a record that is stuck or whose outcome is unknown.

Each verb is one statement that changes the record only if it still is as it was seen. The old owner, if it runs on, has
lost its lease with that: its completion changes no row, and its effects roll back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import Q, QuerySet
from django.dispatch import Signal

from django_idempotency.core.layers import layer_of
from django_idempotency.core.outcomes import Outcome
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.signals import operation_released, operation_resolved
from django_idempotency.stores import models
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.sightings import Sighting, clock, records

Change = Callable[[QuerySet[models.Record, Any]], int]


class NothingToResolve(IdempotencyError):
    """The record is completed: nothing to release."""


class LeaseIsLive(IdempotencyError):
    """The operation is being carried out: its lease has not ended."""


class RecordChanged(IdempotencyError):
    """The record has changed since it was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decides, and why. ``force`` overrules a lease that is still held."""

    actor: str
    reason: str
    force: bool = False

    def check(self, seen: Sighting) -> None:
        """Raise NothingToResolve or LeaseIsLive where there is nothing to decide."""
        if seen.status == "completed":
            raise NothingToResolve
        if seen.is_live and not self.force:
            raise LeaseIsLive


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """The verbs. Each sends a signal, or raises NothingToResolve, LeaseIsLive or RecordChanged."""

    store: DatabaseStore

    def release(self, seen: Sighting, decision: Decision) -> None:
        """Forget the operation, with its steps: the next request runs everything anew."""
        self._decide(seen, decision, _forget, operation_released, status=seen.status)

    def resolve_done(self, seen: Sighting, decision: Decision, outcome: Outcome, *, ttl: timedelta) -> None:
        """Complete the operation with an outcome, which is replayed for so long."""
        now = clock(self.store.alias)
        completed: Any = {
            "status": "completed",
            "owner": None,
            "lease_expires_at": None,
            "response_status": outcome.status,
            "response_headers": outcome.headers,
            "response_body": outcome.body,
            "sealed_with": outcome.sealed_with,
            "outcome_hash": outcome.hash,
            "completed_at": now,
            "expires_at": now + ttl,
        }
        self._decide(seen, decision, lambda rows: rows.update(**completed), operation_resolved, is_done=True)

    def resolve_not_done(self, seen: Sighting, decision: Decision) -> None:
        """Let the next request go on after the last step that ended; the others are taken not to have been done."""
        resumed: Any = {
            "status": "released",
            "owner": uuid4(),
            "lease_expires_at": None,
            "steps": [asdict(step) for step in seen.steps if step.is_done],
        }
        self._decide(seen, decision, lambda rows: rows.update(**resumed), operation_resolved, is_done=False)

    def _decide(self, seen: Sighting, decision: Decision, change: Change, signal: Signal, **facts: Any) -> None:
        decision.check(seen)
        with self.store.transaction():
            if not change(self._unchanged(seen, decision)):
                raise RecordChanged
            transaction.on_commit(partial(self.store.forget, seen.digest), using=self.store.alias, robust=True)
            signal.send(
                type(self.store),
                using=self.store.alias,
                layer=layer_of(seen.scope),
                digest=seen.digest,
                operation=seen.operation,
                scope=seen.scope,
                attempt=seen.attempt,
                actor=decision.actor,
                reason=decision.reason,
                **facts,
            )

    def _unchanged(self, seen: Sighting, decision: Decision) -> QuerySet[models.Record, Any]:
        """Narrow down to the record as it was seen, steps included: a result written since must not be lost."""
        seen_fields = ("digest", "status", "owner", "attempt", "steps_text")
        rows = records(self.store.alias).filter(**{name: getattr(seen, name) for name in seen_fields})
        has_lapsed = Q(has_lapsed=True) if seen.status == "in_progress" and not decision.force else Q()
        return rows.filter(has_lapsed)


def _forget(rows: QuerySet[models.Record, Any]) -> int:
    """Delete in one statement; delete() would look rows up first, and go by their ids, where somebody listens to it."""
    return int(rows._raw_delete(rows.db))

"""What an operator can do about a record that is completed: end its time, blank its body, look into it.

Each is carried out only on the record as it was seen, and sends ``decision_made`` in the same transaction.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from django_idempotency.conf import settings
from django_idempotency.core.layers import layer_of
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.protection import Owner
from django_idempotency.signals import decision_made
from django_idempotency.stores import models
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.resolution import Decision, RecordChanged
from django_idempotency.stores.sightings import Sighting, clock, records


def expire(store: DatabaseStore, seen: Sighting, decision: Decision) -> None:
    """Let the outcome be replayed no longer: the next request runs as new. Raises RecordChanged."""
    _change(store, seen, decision, "expired_now", expires_at=clock(store.alias))


def erase(store: DatabaseStore, seen: Sighting, decision: Decision) -> None:
    """Blank body and headers; what stays keeps the operation from running again. Raises RecordChanged."""
    _change(store, seen, decision, "erased", response_body=None, response_headers=[], sealed_with="")


def reveal(store: DatabaseStore, seen: Sighting, decision: Decision) -> bytes | None:
    """Return the body, None if it was not kept, and say who looked. Raises RecordChanged, OutcomeUnreadable."""
    with store.transaction():
        row = _unchanged(store, seen).values("response_status", "response_body", "sealed_with").first()
        if row is None:
            raise RecordChanged
        _tell(store, seen, decision, "body_revealed")
    if row["response_body"] is None:
        return None
    outcome = Outcome(
        status=row["response_status"] or 0, body=bytes(row["response_body"]), sealed_with=row["sealed_with"]
    )
    if not outcome.sealed_with:
        return outcome.body
    return settings.vault.open(outcome, Owner(digest=bytes(seen.digest), scope=seen.scope)).body


def _change(store: DatabaseStore, seen: Sighting, decision: Decision, action: str, **values: Any) -> None:
    with store.transaction():
        if not _unchanged(store, seen).update(**values):
            raise RecordChanged
        _tell(store, seen, decision, action)
        transaction.on_commit(partial(store.forget, seen.digest), using=store.alias, robust=True)


def _unchanged(store: DatabaseStore, seen: Sighting) -> QuerySet[models.Record, Any]:
    """Narrow down to the record as it was seen, if that was completed."""
    rows = records(store.alias).filter(digest=seen.digest, attempt=seen.attempt, status="completed")
    return rows if seen.status == "completed" else rows.none()


def _tell(store: DatabaseStore, seen: Sighting, decision: Decision, action: str) -> None:
    decision_made.send(
        type(store),
        using=store.alias,
        layer=layer_of(seen.scope),
        action=action,
        operation=seen.operation,
        scope=seen.scope,
        digest=seen.digest,
        attempt=seen.attempt,
        actor=decision.actor,
        reason=decision.reason,
    )

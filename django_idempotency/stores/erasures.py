"""Erasing what is known of somebody: bodies and headers go, tombstones stay, so that no retry does a thing twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.signals import decision_made
from django_idempotency.stores import models
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.resolution import Decision

#: What a tombstone has in the place of what was known. Fingerprint, scope, operation, status and times stay: they tell
#: a retry from another request, and until when.
BLANK: dict[str, Any] = {
    "response_headers": [],
    "response_body": None,
    "sealed_with": "",
    "outcome_hash": None,
    "steps": None,
    "key": "",
    "request_id": "",
    "about": "",
}
_IS_BLANK = Q(
    response_headers=[],
    response_body__isnull=True,
    sealed_with="",
    outcome_hash__isnull=True,
    steps__isnull=True,
    key="",
    request_id="",
    about="",
)
_FACTS = ("id", "digest", "scope", "operation")

Rows = QuerySet[models.Record, Any]


def records_of(alias: str, *, scope: str = "", keys: Collection[str] = (), operation: str = "") -> Rows:
    """Return the records of a scope, of some keys, or of some keys within a scope.

    With scope and operation, keys are found also where they are not kept.
    """
    rows = models.Record.objects.using(alias)
    if scope:
        rows = rows.filter(scope=scope)
    if operation:
        rows = rows.filter(operation=operation)
    if keys:
        rows = rows.filter(Q(key__in=keys) | Q(digest__in=_digests(scope, keys, operation)))
    return rows


def _digests(scope: str, keys: Collection[str], operation: str) -> list[bytes]:
    if not (scope and operation):
        return []
    parts = tuple(scope.split(" / "))
    return [IdempotencyKey(value=key, scope=parts, operation=operation).digest for key in keys]


def erasable(rows: Rows) -> Rows:
    """Narrow down to what is completed and not erased yet. Of the others, it is not settled what came of them."""
    return rows.filter(status="completed").exclude(_IS_BLANK)


def unsettled(rows: Rows) -> Rows:
    """Narrow down to what is not completed: erasing that would let it run again."""
    return rows.exclude(status="completed")


def erase(store: DatabaseStore, rows: Rows, decision: Decision, *, batch_size: int = 500) -> Iterator[int]:
    """Blank completed records in batches, and drop their copies; yield how many each has blanked.

    Sends ``decision_made`` (``erased``) for each in its transaction. A copy that a request was about to make is dropped
    when this is run again, and lives for a minute at most.
    """
    reached = 0
    completed = rows.filter(status="completed").order_by("id")
    while True:
        with transaction.atomic(using=store.alias, durable=True):
            found = list(completed.filter(id__gt=reached).select_for_update().values(*_FACTS)[:batch_size])
            erased = _blank(store, found, decision)
        if not found:
            return
        for row in found:
            store.forget(bytes(row["digest"]))
        reached = found[-1]["id"]
        yield erased


def _blank(store: DatabaseStore, found: list[dict[str, Any]], decision: Decision) -> int:
    """Blank what is not blank yet among locked rows; return how many that were."""
    same = models.Record.objects.using(store.alias).filter(pk__in=[row["id"] for row in found])
    changed = set(erasable(same).values_list("id", flat=True))
    models.Record.objects.using(store.alias).filter(pk__in=changed).update(**BLANK)
    for row in found:
        if row["id"] in changed:
            _tell(store, row, decision)
    return len(changed)


def _tell(store: DatabaseStore, row: dict[str, Any], decision: Decision) -> None:
    decision_made.send(
        type(store),
        using=store.alias,
        layer="http",
        operation=row["operation"],
        action="erased",
        actor=decision.actor,
        reason=decision.reason,
        scope=row["scope"],
        digest=bytes(row["digest"]),
    )

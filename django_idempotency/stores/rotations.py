"""Encrypted outcomes, taken from older keys to the newest one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.protection import Owner, SealedSteps, Vault
from django_idempotency.core.steps import Step
from django_idempotency.exceptions import OutcomeUnreadable
from django_idempotency.stores import models
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.sightings import clock

_FIELDS = ("id", "digest", "scope", "sealed_with", "response_status", "response_body", "steps")

Rows = QuerySet[models.Record, Any]
Change = Callable[[dict[str, Any], Owner], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What came of one transaction: the digests of those that are under the newest key now, and of the others."""

    rotated: tuple[bytes, ...] = ()
    unreadable: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Re-encrypts the records of a store. A record is under its old key or under the new one, whatever breaks off."""

    store: DatabaseStore
    vault: Vault

    def count_left(self) -> dict[str, int]:
        """Return how many live records are under each older key, by the id of the key."""
        rows = self._outcomes().order_by().values_list("sealed_with").annotate(count=Count("id"))
        counts = Counter(dict(rows))
        for steps in self._unsettled().values_list("steps", flat=True):
            counts.update({step.sealed_with for step in _steps(steps) if self._is_old(step)})
        return dict(counts)

    def run(self, *, batch_size: int) -> Iterator[Batch]:
        """Re-encrypt in batches, each in a transaction that waits for nobody; yield what came of each.

        What another transaction has locked is left out: another run finds it. So is what cannot be decrypted.
        """
        yield from self._run(self._outcomes, self._with_outcome, batch_size)
        yield from self._run(self._unsettled, self._with_steps, batch_size)

    def _run(self, rows: Callable[[], Rows], change: Change, batch_size: int) -> Iterator[Batch]:
        reached = 0
        while True:
            with transaction.atomic(using=self.store.alias, durable=True):
                left = rows().filter(id__gt=reached).order_by("id").select_for_update(skip_locked=True)
                found = list(left.values(*_FIELDS)[:batch_size])
                batch = self._rotate(found, change)
            if not found:
                return
            for digest in batch.rotated:
                self.store.forget(digest)
            reached = found[-1]["id"]
            yield batch

    def _unsettled(self) -> Rows:
        """Return what may be resumed, whose steps may have results that are encrypted."""
        unsettled = models.Record.objects.using(self.store.alias).exclude(status="completed")
        return unsettled.filter(steps__isnull=False)

    def _is_old(self, step: Step) -> bool:
        return step.sealed_with not in ("", self.vault.key_id)

    def _outcomes(self) -> Rows:
        is_expired = Q(status="completed", expires_at__lte=clock(self.store.alias))
        sealed = models.Record.objects.using(self.store.alias).exclude(sealed_with="")
        return sealed.exclude(sealed_with=self.vault.key_id).exclude(is_expired)

    def _rotate(self, rows: list[dict[str, Any]], change: Change) -> Batch:
        rotated, unreadable = [], []
        for row in rows:
            digest = bytes(row["digest"])
            try:
                changed = change(row, Owner(digest=digest, scope=row["scope"]))
            except OutcomeUnreadable:
                unreadable.append(digest)
                continue
            if changed:
                models.Record.objects.using(self.store.alias).filter(pk=row["id"]).update(**changed)
                rotated.append(digest)
        return Batch(rotated=tuple(rotated), unreadable=tuple(unreadable))

    def _with_outcome(self, row: dict[str, Any], owner: Owner) -> dict[str, Any]:
        body = bytes(row["response_body"])
        kept = Outcome(status=row["response_status"], body=body, sealed_with=row["sealed_with"])
        outcome = self.vault.seal(self.vault.open(kept, owner), owner)
        return {"response_body": outcome.body, "sealed_with": outcome.sealed_with}

    def _with_steps(self, row: dict[str, Any], owner: Owner) -> dict[str, Any]:
        seal, steps = SealedSteps(vault=self.vault, owner=owner), _steps(row["steps"])
        if not any(map(self._is_old, steps)):
            return {}
        renewed = [seal.seal(seal.open(step)) if self._is_old(step) else step for step in steps]
        return {"steps": [asdict(step) for step in renewed]}


def _steps(kept: list[dict[str, Any]] | None) -> list[Step]:
    return [Step(**fields) for fields in kept or ()]

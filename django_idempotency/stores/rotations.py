"""Encrypted outcomes, taken from older keys to the newest one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.protection import Owner, Vault
from django_idempotency.exceptions import OutcomeUnreadable
from django_idempotency.stores import models
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.sightings import clock

_FIELDS = ("id", "digest", "scope", "sealed_with", "response_status", "response_body")


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
        rows = self._left().order_by().values_list("sealed_with").annotate(count=Count("id"))
        return dict(rows)

    def run(self, *, batch_size: int) -> Iterator[Batch]:
        """Re-encrypt in batches, each in a transaction that waits for nobody; yield what came of each.

        What another transaction has locked is left out: another run finds it. So is what cannot be decrypted.
        """
        reached = 0
        while True:
            with transaction.atomic(using=self.store.alias, durable=True):
                rows = self._left().filter(id__gt=reached).order_by("id").select_for_update(skip_locked=True)
                found = list(rows.values(*_FIELDS)[:batch_size])
                batch = self._rotate(found)
            if not found:
                return
            self.store.forget(batch.rotated)
            reached = found[-1]["id"]
            yield batch

    def _left(self) -> QuerySet[models.Record, Any]:
        is_expired = Q(status="completed", expires_at__lte=clock(self.store.alias))
        sealed = models.Record.objects.using(self.store.alias).exclude(sealed_with="")
        return sealed.exclude(sealed_with=self.vault.key_id).exclude(is_expired)

    def _rotate(self, rows: list[dict[str, Any]]) -> Batch:
        rotated, unreadable = [], []
        for row in rows:
            digest = bytes(row["digest"])
            try:
                outcome = self._renewed(row, Owner(digest=digest, scope=row["scope"]))
            except OutcomeUnreadable:
                unreadable.append(digest)
                continue
            same = models.Record.objects.using(self.store.alias).filter(pk=row["id"])
            same.update(response_body=outcome.body, sealed_with=outcome.sealed_with)
            rotated.append(digest)
        return Batch(rotated=tuple(rotated), unreadable=tuple(unreadable))

    def _renewed(self, row: dict[str, Any], owner: Owner) -> Outcome:
        body = bytes(row["response_body"])
        kept = Outcome(status=row["response_status"], body=body, sealed_with=row["sealed_with"])
        return self.vault.seal(self.vault.open(kept, owner), owner)

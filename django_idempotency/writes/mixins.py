"""What a model that is upserted inherits from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

from asgiref.sync import sync_to_async
from django.db import models
from django.db.models.base import ModelBase
from django.utils.translation import gettext_lazy as _

from django_idempotency.writes.fields import DigestField
from django_idempotency.writes.recipes import HASH_FIELD, options_of, recipe
from django_idempotency.writes.results import OUTCOMES, Outcome, UpsertResult
from django_idempotency.writes.row_payloads import digester
from django_idempotency.writes.rows import Values
from django_idempotency.writes.upserts import BATCH_SIZE, upsert

M = TypeVar("M", bound=models.Model, covariant=True)


class UpsertQuerySet(models.QuerySet[M]):
    """Upserts by what the model's inner class ``Upsert`` tells."""

    def upsert(
        self, rows: Iterable[models.Model | Values], *, on_duplicate: str = "error", batch_size: int = BATCH_SIZE
    ) -> UpsertResult[Any]:
        """Insert rows, update those that differ, leave the others alone; tell which was which."""
        self._for_write = True
        return upsert(self.model, rows, on_duplicate=on_duplicate, batch_size=batch_size, using=self.db)

    async def aupsert(self, rows: Iterable[models.Model | Values], **options: Any) -> UpsertResult[Any]:
        """Do the same, from asynchronous code."""
        return await sync_to_async(self.upsert)(rows, **options)

    def upsert_one(self, row: models.Model | Values) -> tuple[Any, Outcome]:
        """Upsert one row; return its object and what came of it."""
        result = self.upsert([row])
        return next((result.of(outcome)[0], outcome) for outcome in OUTCOMES if result.of(outcome))

    def update(self, **values: Any) -> int:
        """Update; rows whose payload changes in this way lose their digest, so that the next upsert compares anew."""
        if HASH_FIELD not in values and _names_payload(self.model, values):
            values[HASH_FIELD] = None
        return super().update(**values)

    update.alters_data = True  # type: ignore[attr-defined]


class UpsertMixin(models.Model):
    """A model whose rows are upserted by a key and guarded by a digest of their payload.

    An inner class ``Upsert`` has ``key``, and may have ``payload``, ``guard``, ``hash_version``, ``version``.
    """

    #: NULL where the payload was written by other means than ``upsert`` and ``save``: the next upsert writes it once.
    payload_hash = DigestField(_("payload hash"), max_length=32, null=True, editable=False)
    revision = models.PositiveBigIntegerField(_("revision"), default=1, editable=False)

    objects: ClassVar[Any] = UpsertQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(
        self,
        *,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Save, with the digest of the payload that is saved."""
        if update_fields is None:
            self.payload_hash = _digest(self)
        elif _names_payload(type(self), update_fields := {*update_fields}):
            # The other fields may have changed in the database meanwhile.
            self.payload_hash = None
            update_fields |= {HASH_FIELD}
        super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)


def _names_payload(model: type[models.Model], names: Iterable[str]) -> bool:
    payload = recipe(model, options_of(model)).payload
    return not {name for field in payload for name in (field.name, field.attname)}.isdisjoint(names)


def _digest(obj: models.Model) -> bytes | None:
    known = recipe(type(obj), options_of(type(obj)))
    try:
        return digester(known.payload, known.hash_version)(obj) if known.hash else None
    except TypeError:  # an expression, whose value only the database knows
        return None

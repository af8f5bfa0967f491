"""Writes that may be repeated: upserts by business key."""

from django_idempotency.writes.inserts import get_or_insert
from django_idempotency.writes.mixins import UpsertMixin, UpsertQuerySet
from django_idempotency.writes.results import Outcome, UpsertResult
from django_idempotency.writes.upserts import aupsert, upsert

__all__ = ["Outcome", "UpsertMixin", "UpsertQuerySet", "UpsertResult", "aupsert", "get_or_insert", "upsert"]

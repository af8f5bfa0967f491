"""An index only: each room owns its models."""

from django_idempotency.stores.models import Record

__all__ = ["Record"]

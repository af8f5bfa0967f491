"""Where records live. ``get_store(alias)`` returns the store that ``IDEMPOTENCY_STORES`` names."""

from __future__ import annotations

from django_idempotency.backends import Backends
from django_idempotency.stores.base import Store

_stores = Backends[Store]("STORES")


def get_store(alias: str = "default") -> Store:
    """Return the store of this alias, one instance per process. Raises ImproperlyConfigured."""
    return _stores.get(alias)

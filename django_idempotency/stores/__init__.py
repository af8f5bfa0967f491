"""Where records live. ``get_store(alias)`` returns the store that ``IDEMPOTENCY_STORES`` names."""

from __future__ import annotations

from threading import Lock
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_idempotency.conf import PREFIX, settings
from django_idempotency.stores.base import Store

_stores: dict[str, Store] = {}
_lock = Lock()


def get_store(alias: str = "default") -> Store:
    """Return the store of this alias, one instance per process. Raises ImproperlyConfigured."""
    store = _stores.get(alias)
    if store is None:
        with _lock:
            store = _stores.get(alias) or _stores.setdefault(alias, _make(alias))
    return store


def _make(alias: str) -> Store:
    try:
        configured = settings.STORES[alias]
        backend: type[Store] = import_string(configured["BACKEND"])
    except KeyError as error:
        raise ImproperlyConfigured(f"IDEMPOTENCY_STORES has no BACKEND for the alias {alias!r}.") from error
    except ImportError as error:
        raise ImproperlyConfigured(f"IDEMPOTENCY_STORES[{alias!r}]: {error}") from error
    return backend(**configured.get("OPTIONS", {}))


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == PREFIX + "STORES":
        _stores.clear()


setting_changed.connect(_forget)

"""What commands about records have in common: the store that an option names, and who decides."""

from __future__ import annotations

import getpass
import os

from django.core.management.base import CommandError

from django_idempotency.conf import settings
from django_idempotency.stores import get_store
from django_idempotency.stores.database import DatabaseStore


def database_store(alias: str) -> DatabaseStore:
    """Return the store of this alias. Raises CommandError if there is none, or if its records are out of reach."""
    if alias not in settings.STORES:
        raise CommandError(f"IDEMPOTENCY_STORES has no {alias!r}; it has {', '.join(sorted(settings.STORES))}.")
    store = get_store(alias)
    if not isinstance(store, DatabaseStore):
        raise CommandError(f"The store {alias!r} keeps no records that a command could reach.")
    return store


def system_user() -> str:
    """Return who runs this process, as the audit names an actor."""
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):  # a container may run under a user that has no name
        return f"user:{os.getuid()}"

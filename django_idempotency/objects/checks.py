"""System checks of the content-addressed storages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, storages

from django_idempotency.objects.storage import ContentAddressedStorage, content_aliases


def check_objects(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that every content-addressed storage can be made, and what it keeps objects in."""
    return [message for alias in content_aliases() for message in _check_storage(alias)]


def _check_storage(alias: str) -> Iterable[checks.CheckMessage]:
    try:
        storage = storages[alias]
        assert isinstance(storage, ContentAddressedStorage)
        return storage.writer.check(alias)
    except (ImproperlyConfigured, InvalidStorageError, TypeError, ValueError) as error:
        return [checks.Error(f"STORAGES[{alias!r}] cannot be made: {error}", id="idempotency.E070")]

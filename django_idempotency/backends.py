"""What a setting names by alias, as Django's CACHES does: a dict with BACKEND and OPTIONS each."""

from __future__ import annotations

from threading import Lock
from typing import Any, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_idempotency.conf import PREFIX, settings

B = TypeVar("B")


class Backends(Generic[B]):
    """The instances of one setting, whose name is given without its prefix; each is made once a process."""

    def __init__(self, setting: str) -> None:
        self._setting, self._made, self._lock = setting, dict[str, B](), Lock()
        setting_changed.connect(self._forget)

    def get(self, alias: str) -> B:
        """Return the instance of this alias. Raises ImproperlyConfigured."""
        made = self._made.get(alias)
        if made is None:
            with self._lock:
                made = self._made.get(alias) or self._made.setdefault(alias, self._make(alias))
        return made

    def _make(self, alias: str) -> B:
        name = PREFIX + self._setting
        try:
            configured: dict[str, Any] = getattr(settings, self._setting)[alias]
            backend: type[B] = import_string(configured["BACKEND"])
        except KeyError as error:
            raise ImproperlyConfigured(f"{name} has no BACKEND for the alias {alias!r}.") from error
        except ImportError as error:
            raise ImproperlyConfigured(f"{name}[{alias!r}]: {error}") from error
        return backend(**configured.get("OPTIONS", {}))

    def _forget(self, *, setting: str, **kwargs: Any) -> None:
        if setting == PREFIX + self._setting:
            self._made.clear()

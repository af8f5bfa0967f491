"""How objects get into an underlying storage and out of it: one writer for each kind of storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.checks import CheckMessage
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils.module_loading import import_string

from django_idempotency.objects.blobs import Content, Naming
from django_idempotency.objects.exceptions import CollectionRefused

#: Writers by the class of the storage that they know, as paths, so that nothing is imported that is not in use.
WRITERS = {
    "django.core.files.storage.filesystem.FileSystemStorage": "django_idempotency.objects.files.FileWriter",
    "storages.backends.s3.S3Storage": "django_idempotency.contrib.s3.S3Writer",
}
ANY_STORAGE = "django_idempotency.objects.others.AnyWriter"
COLLECTED = "quarantine/collected/"
CORRUPT = "quarantine/corrupt/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object as a listing shows it: ``size`` in bytes, ``modified`` when it was written or last asked for."""

    name: str
    size: int
    modified: datetime


class Writer(ABC):
    """Stores, lists and sets aside the objects below one prefix of one storage.

    Names are relative to the prefix. ``fsync`` is whether to wait for a disk. A writer without ``supports_collection``
    need not implement what follows the listing.
    """

    supports_collection = True

    def __init__(self, storage: Storage, prefix: str, naming: Naming, *, fsync: bool = True) -> None:
        self.storage: Any = storage
        self.prefix = prefix
        self.naming = naming
        self.fsync = fsync

    @abstractmethod
    def write(self, content: Content) -> bool:
        """Read the content and store it under its name; tell whether it was not there.

        What was there counts as new from now on: a collector that is about to remove it leaves it or gives it back.
        """

    @abstractmethod
    def entries(self, below: str = "") -> Iterator[Entry]:
        """Yield the objects, or those of a quarantine."""

    def open(self, name: str) -> File[Any]:
        """Open an object for reading, also one that has been collected, but not yet purged."""
        for place in self._places:
            with suppress(FileNotFoundError):
                return self._open(self.prefix + place + name)
        raise FileNotFoundError(name)

    def _open(self, path: str) -> File[Any]:
        """Open what can be read to its end from now on. Raises FileNotFoundError."""
        opened: File[Any] = self.storage.open(path, "rb")
        return opened

    def size(self, name: str) -> int:
        """Return the number of bytes. Raises FileNotFoundError."""
        for place in self._places:
            with suppress(FileNotFoundError):
                return int(self.storage.size(self.prefix + place + name))
        raise FileNotFoundError(name)

    def exists(self, name: str) -> bool:
        """Tell whether an object can be opened."""
        return any(self.storage.exists(self.prefix + place + name) for place in self._places)

    @property
    def _places(self) -> tuple[str, ...]:
        """Where to look, in this order: what was in neither place may have been given back in between."""
        return ("", COLLECTED, "") if self.supports_collection else ("",)

    def url(self, name: str, filename: str | None) -> str:
        """Return an address that a browser saves under the file name, where the storage can say so."""
        return str(self.storage.url(self.prefix + name))

    def check(self, alias: str) -> list[CheckMessage]:
        """Say what is wrong with the storage."""
        return []

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other collectors out. Raises CollectorRunning."""
        raise CollectionRefused(f"Objects of {type(self.storage).__name__} can be stored and verified, not collected.")

    def modified(self, name: str) -> datetime | None:
        """Return when an object was written or last asked for, None if there is none."""
        raise NotImplementedError

    def set_aside(self, name: str, before: datetime) -> bool:
        """Move an object into quarantine unless it is newer, or is asked for meanwhile; tell whether it was moved."""
        raise NotImplementedError

    def version(self, name: str) -> str:
        """Return what changes if the bytes behind a name are replaced. Raises FileNotFoundError."""
        raise NotImplementedError

    def condemn(self, name: str, version: str) -> bool:
        """Move this version of an object into the quarantine of what is corrupt; tell whether it was there."""
        raise NotImplementedError

    def restore(self, name: str) -> None:
        """Give a collected object back."""
        raise NotImplementedError

    def purge(self, name: str) -> None:
        """Delete a collected object for good."""
        raise NotImplementedError

    def leftovers(self, before: datetime, *, dry_run: bool) -> int:
        """Delete what writers that died have left behind; return how much."""
        raise NotImplementedError


def writer_for(storage: Storage, prefix: str, naming: Naming, *, fsync: bool = True) -> Writer:
    """Return the writer that knows this storage best."""
    paths = (f"{ancestor.__module__}.{ancestor.__qualname__}" for ancestor in type(storage).__mro__)
    path = next((WRITERS[path] for path in paths if path in WRITERS), ANY_STORAGE)
    writer: Writer = import_string(path)(storage, prefix, naming, fsync=fsync)
    return writer

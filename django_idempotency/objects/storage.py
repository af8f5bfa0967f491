"""A storage for Django's STORAGES that names content by its digest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import IO, Any, NoReturn

from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files.base import File
from django.core.files.storage import Storage, storages
from django.utils.deconstruct import deconstructible
from django.utils.module_loading import import_string

from django_idempotency.objects.blobs import Blob, Content, Naming, digest_of
from django_idempotency.objects.exceptions import ObjectCorrupted, ObjectImmutable
from django_idempotency.objects.writers import Writer, writer_for
from django_idempotency.signals import operation_answered

_FILES = {"BACKEND": "django.core.files.storage.FileSystemStorage"}


@deconstructible(path="django_idempotency.objects.ContentAddressedStorage")
class ContentAddressedStorage(Storage):
    """The same bytes are stored once, under a name that says what they are, and never change.

    ``storage`` is what holds them: a dict with BACKEND and OPTIONS as in STORAGES, or the alias of another storage.
    ``prefix`` is a folder of it that belongs to this storage alone. With ``verify_on_read``, ``open`` reads everything
    once before it returns. Without ``fsync``, files are not waited for until they are on the disk. Raises
    ImproperlyConfigured.
    """

    def __init__(
        self,
        *,
        storage: dict[str, Any] | str = _FILES,
        algorithm: str = "sha256",
        fanout: Sequence[int] = (2, 2),
        prefix: str = "",
        verify_on_read: bool = False,
        fsync: bool = True,
    ) -> None:
        self._inner = storage
        self.naming = Naming(algorithm, fanout)
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.verify_on_read = verify_on_read
        self.fsync = fsync

    @cached_property
    def writer(self) -> Writer:
        """What knows the storage below. Raises ImproperlyConfigured."""
        if isinstance(self._inner, str):
            return writer_for(storages[self._inner], self.prefix, self.naming, fsync=self.fsync)
        try:
            backend = import_string(self._inner["BACKEND"])
            inner = backend(**self._inner.get("OPTIONS", {}))
        except (KeyError, TypeError, ImportError) as error:
            raise ImproperlyConfigured(f"storage: {type(error).__name__}: {error}") from error
        return writer_for(inner, self.prefix, self.naming, fsync=self.fsync)

    @cached_property
    def alias(self) -> str:
        """The alias in STORAGES, the name of the class where there is none."""
        return next((alias for alias, storage in content_storages() if storage is self), type(self).__name__)

    def put(self, file: File[Any] | IO[Any]) -> Blob:
        """Store content, which may be a stream of unknown size; return what it is and whether it is new.

        When this returns, the object is durable (unless ``fsync`` is off), and no collector removes it for as long as
        its grace is, whatever was there before. Raises what the storage below raises; then nothing is visible, or the
        object is, whole.
        """
        started = time.monotonic()
        content = Content(file, self.naming.algorithm)
        created = self.writer.write(content)
        name = self.naming.name(content.hexdigest)
        self._tell(content, created=created, duration=time.monotonic() - started)
        return Blob(name=name, digest=self.naming.digest(name), size=content.size, created=created)

    def _tell(self, content: Content, *, created: bool, duration: float) -> None:
        digest = bytes.fromhex(content.hexdigest)
        operation_answered.send(
            type(self),
            using=None,
            layer="objects",
            operation=self.alias,
            outcome="executed" if created else "replayed",
            scope="",
            digest=digest if len(digest) == 32 else b"",
            fingerprint=b"",
            outcome_hash=b"",
            attempt=1,
            duration=duration,
            status=None,
            reason="",
        )

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str:
        """Store content; return its name, whatever it was to be called. Raises SuspiciousFileOperation."""
        blob = self.put(content)
        if max_length is not None and len(blob.name) > max_length:
            raise SuspiciousFileOperation(f"Names are {len(blob.name)} characters long; max_length is {max_length}.")
        return blob.name

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        if set(mode) - set("rb"):
            raise ObjectImmutable
        name = self.naming.resolve(name)
        file = self.writer.open(name)
        if self.verify_on_read:
            if digest_of(file.chunks(), self.naming.algorithm) != self.naming.hexdigest(name):
                file.close()
                raise ObjectCorrupted
            file.seek(0)
        return file

    def verify(self, name: str) -> bool:
        """Read an object, and tell whether it is what its name promises. Raises FileNotFoundError."""
        name = self.naming.resolve(name)
        with self.writer.open(name) as file:
            return digest_of(file.chunks(), self.naming.algorithm) == self.naming.hexdigest(name)

    def exists(self, name: str) -> bool:
        """Tell whether there is such an object; names and digests are taken."""
        try:
            return self.writer.exists(self.naming.resolve(name))
        except ValueError:
            return False

    def url(self, name: str | None, filename: str | None = None) -> str:
        """Return the address; on S3 browsers save what is there under ``filename``."""
        return self.writer.url(self.naming.resolve(name or ""), filename)

    def delete(self, name: str) -> NoReturn:
        """Refuse. Raises ObjectImmutable."""
        raise ObjectImmutable

    def size(self, name: str) -> int:
        """Return the number of bytes. Raises FileNotFoundError."""
        return self.writer.size(self.naming.resolve(name))

    def path(self, name: str) -> str:
        """Return the path in a file system. Raises NotImplementedError where the objects are elsewhere."""
        return str(self.writer.storage.path(self.prefix + self.naming.resolve(name)))

    def get_modified_time(self, name: str) -> datetime:
        """Return when the object was stored or, in a file system, last put."""
        modified: datetime = self.writer.storage.get_modified_time(self.prefix + self.naming.resolve(name))
        return modified

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """Return the name as it is: that of content is always its own."""
        return name


def content_storages() -> list[tuple[str, ContentAddressedStorage]]:
    """Return the content-addressed storages of STORAGES that can be made, by alias."""
    made = ((alias, storages[alias]) for alias in content_aliases())
    return [(alias, storage) for alias, storage in made if isinstance(storage, ContentAddressedStorage)]


def content_aliases() -> list[str]:
    """Return the aliases of STORAGES that name a content-addressed storage, whether it can be made or not."""
    configured: Any = storages.backends
    return [alias for alias, entry in configured.items() if _is_content_addressed(entry.get("BACKEND", ""))]


def _is_content_addressed(path: str) -> bool:
    try:
        backend = import_string(path)
    except ImportError:
        return False
    return isinstance(backend, type) and issubclass(backend, ContentAddressedStorage)

"""Any other storage: stored as well as it can, verified, never collected."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile

from django.core import checks
from django.core.files.base import File
from django.utils import timezone

from django_idempotency.objects.blobs import MEMORY, Content
from django_idempotency.objects.writers import Entry, Writer


class AnyWriter(Writer):
    """Looks, then saves. Of two that save at once, the one whose copy got another name takes that back.

    Whether an object is seen only when it is whole is up to the storage.
    """

    supports_collection = False

    def write(self, content: Content) -> bool:
        """Save what is not there."""
        if content.foresee() and self.storage.exists(self._path(content)):
            return False
        with SpooledTemporaryFile(MEMORY) as spool:
            for chunk in content:
                spool.write(chunk)
            spool.seek(0)
            name = self._path(content)
            if self.storage.exists(name):
                return False
            saved: str = self.storage.save(name, File(spool, name))
        if saved != name:
            self.storage.delete(saved)
        return saved == name

    def _path(self, content: Content) -> str:
        return self.prefix + self.naming.name(content.hexdigest)

    def entries(self, below: str = "") -> Iterator[Entry]:
        """List folder by folder."""
        folders, files = self.storage.listdir(self.prefix + below)
        for file in sorted(files):
            name = f"{below}{file}"
            if self.naming.hexdigest(name):
                path = self.prefix + name
                modified: datetime = self.storage.get_modified_time(path)
                aware = modified if timezone.is_aware(modified) else modified.astimezone(UTC)
                yield Entry(name=name, size=self.storage.size(path), modified=aware)
        for folder in sorted(folders):
            yield from self.entries(f"{below}{folder}/")

    def check(self, alias: str) -> list[checks.CheckMessage]:
        """Say that there is no guarantee."""
        return [
            checks.Warning(
                f"STORAGES[{alias!r}] keeps objects in {type(self.storage).__name__}, which nothing is known about: "
                "duplicates at the same moment are handled as well as they can be, and nothing is collected.",
                hint="Use FileSystemStorage or S3Storage, or silence this where that is enough, as in tests.",
                id="idempotency.W071",
            )
        ]

"""Objects as files: written aside, made durable, and linked to their name in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkstemp

from django.core.files import locks

from django_idempotency.objects.blobs import Content
from django_idempotency.objects.exceptions import CollectorRunning, ObjectContended
from django_idempotency.objects.writers import COLLECTED, CORRUPT, Entry, Writer

_TEMPORARY = "tmp"
_RESERVED = {_TEMPORARY, "quarantine"}
_ATTEMPTS = 10


class FileWriter(Writer):
    """Needs a file system with hard links. An object's time of modification is when it was last put."""

    def write(self, content: Content) -> bool:
        """Write to a temporary file of the same file system, then link it to its name."""
        folder = self._path(_TEMPORARY)
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in content:
                    file.write(chunk)
                file.flush()
                # A duplicate is not worth waiting for the disk.
                if self._touch(self.naming.name(content.hexdigest), content.size):
                    return False
                os.fchmod(file.fileno(), self._mode())
                os.fsync(file.fileno())
            return self._place(temporary, content)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def _mode(self) -> int:
        """Return the permissions of an object: nobody writes to it."""
        mode: int | None = self.storage.file_permissions_mode
        return (0o644 if mode is None else mode) & 0o555

    def _place(self, temporary: str, content: Content) -> bool:
        name = self.naming.name(content.hexdigest)
        target = self._path(name)
        for _ in range(_ATTEMPTS):
            self._make_folder(target.parent)
            with suppress(FileExistsError):
                os.link(temporary, target)
                _sync(target.parent)
                return True
            if self._touch(name, content.size):
                return False
            with suppress(FileNotFoundError):  # a collector has moved it away since
                if target.stat().st_size != content.size:
                    return self._heal(temporary, name)
        raise ObjectContended

    def _touch(self, name: str, size: int) -> bool:
        """Say that the object is wanted; tell whether it is there, and whole."""
        target = self._path(name)
        with suppress(FileNotFoundError):
            os.utime(target)
            if target.stat().st_size == size:
                _sync(target.parent)  # whoever linked it may not have come to this yet
                return True
        return False

    def _heal(self, temporary: str, name: str) -> bool:
        """Put whole content in the place of a part of it, in one step; keep a link to what was there."""
        target, aside = self._path(name), self._path(CORRUPT + name)
        self._make_folder(aside.parent)
        aside.unlink(missing_ok=True)
        with suppress(FileExistsError):
            os.link(target, aside)
        os.replace(temporary, target)
        _sync(target.parent)
        return True

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=self.storage.directory_permissions_mode or 0o777)
            _sync(folder.parent)

    def entries(self, below: str = "") -> Iterator[Entry]:
        """Walk the folders in order."""
        root = self._path(below)
        for folder, folders, files in os.walk(root):
            folders[:] = sorted({*folders} - _RESERVED)
            for file in sorted(files):
                path = Path(folder, file)
                name = path.relative_to(root).as_posix()
                if self.naming.hexdigest(name):
                    with suppress(FileNotFoundError):
                        found = path.stat()
                        yield Entry(name=name, size=found.st_size, modified=_time(found.st_mtime))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lock a file, which the system unlocks if this process dies."""
        folder = self._path(_TEMPORARY)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".collector").open("ab") as file:
            if not locks.lock(file, locks.LOCK_EX | locks.LOCK_NB):
                raise CollectorRunning
            yield

    def modified(self, name: str) -> datetime | None:
        """Look at the file."""
        with suppress(FileNotFoundError):
            return _time(self._path(name).stat().st_mtime)
        return None

    def set_aside(self, name: str, before: datetime) -> bool:
        """Move the file, then look at it again: a put that has found it has left its time on the file itself."""
        source, aside = self._path(name), self._path(COLLECTED + name)
        self._make_folder(aside.parent)
        with suppress(FileNotFoundError):
            if _time(source.stat().st_mtime) >= before:
                return False
            # Of one that was given back only half there are two links, between which a rename does nothing.
            aside.unlink(missing_ok=True)
            source.rename(aside)
            if _time(aside.stat().st_mtime) < before:
                os.utime(aside)
                return True
            self.restore(name)
        return False

    def version(self, name: str) -> str:
        """Return the number and the time of the file: numbers are given out again."""
        return _version(self._path(name))

    def condemn(self, name: str, version: str) -> bool:
        """Move the file, and back again if it was another one."""
        target, aside = self._path(name), self._path(CORRUPT + name)
        self._make_folder(aside.parent)
        with suppress(FileNotFoundError):
            target.replace(aside)
            if _version(aside) == version:
                return True
            with suppress(FileExistsError):
                os.link(aside, target)
            aside.unlink()
        return False

    def restore(self, name: str) -> None:
        """Link the file to its name again, unless it has been put anew."""
        source, target = self._path(COLLECTED + name), self._path(name)
        self._make_folder(target.parent)
        with suppress(FileExistsError):
            os.link(source, target)
            os.utime(target)
        source.unlink(missing_ok=True)
        _sync(target.parent)

    def purge(self, name: str) -> None:
        """Delete the file."""
        self._path(COLLECTED + name).unlink(missing_ok=True)

    def leftovers(self, before: datetime, *, dry_run: bool) -> int:
        """Delete temporary files that nobody has written to since then, or that have been linked to their name."""
        count = 0
        for path in self._path(_TEMPORARY).glob("tmp*"):
            with suppress(FileNotFoundError):
                found = path.stat()
                if found.st_nlink > 1 or _time(found.st_mtime) < before:
                    count += 1
                    if not dry_run:
                        path.unlink()
        return count

    def _path(self, name: str) -> Path:
        return Path(self.storage.path(self.prefix + name))


def _version(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_mtime_ns}"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _sync(folder: Path) -> None:
    """Make a folder's entries durable."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Objects as files: written aside, made durable, and linked to their name in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import mkstemp
from typing import IO

from django.core.files import locks
from django.core.files.storage import Storage

from django_idempotency.objects.blobs import CHUNK, Content, Naming, digest_of
from django_idempotency.objects.exceptions import CollectorRunning, ObjectContended
from django_idempotency.objects.folders import Folders
from django_idempotency.objects.writers import COLLECTED, CORRUPT, Entry, Writer

_TEMPORARY = "tmp"
_RESERVED = {_TEMPORARY, "quarantine"}
_ATTEMPTS = 10
_SECOND = ".second"


class FileWriter(Writer):
    """Needs a file system with hard links. An object's time of modification is when it was last put.

    An object has a second link from when it gets its name until the entry for it is durable.
    """

    def __init__(self, storage: Storage, prefix: str, naming: Naming, *, fsync: bool = True) -> None:
        super().__init__(storage, prefix, naming, fsync=fsync)
        self._folders = Folders(storage, prefix, fsync=fsync)

    def write(self, content: Content) -> bool:
        """Look whether it is there; else write to a temporary file of the same file system, and link that."""
        is_foreseen = content.foresee()
        if is_foreseen and self._touch(self._target(content), content.size):
            return False
        handle, temporary = self._temporary()
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in content:
                    file.write(chunk)
                # A duplicate is not worth waiting for the disk.
                is_known = not is_foreseen and self._touch(self._target(content), content.size)
                if not is_known:
                    os.fchmod(file.fileno(), self._mode())
                    self._flush(file)
            created = not is_known and self._place(temporary, self._target(content), content)
        except BaseException:
            self._discard(temporary)
            raise
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        return created

    def _discard(self, temporary: str) -> None:
        """Delete what came to nothing; a second link is left, to say that the first one may not be durable."""
        with suppress(FileNotFoundError):
            if os.stat(temporary).st_nlink == 1:
                os.unlink(temporary)

    def _flush(self, file: IO[bytes]) -> None:
        file.flush()
        if self.fsync:
            os.fsync(file.fileno())

    def _temporary(self) -> tuple[int, str]:
        folder = self._path(_TEMPORARY)
        with suppress(FileNotFoundError):
            return mkstemp(dir=folder)
        folder.mkdir(parents=True, exist_ok=True)
        return mkstemp(dir=folder)

    def _mode(self) -> int:
        """Return the permissions of an object: nobody writes to it."""
        mode: int | None = self.storage.file_permissions_mode
        return (0o644 if mode is None else mode) & 0o555

    def _target(self, content: Content) -> Path:
        return self._path(self.naming.name(content.hexdigest))

    def _place(self, temporary: str, target: Path, content: Content) -> bool:
        for _ in range(_ATTEMPTS):
            if self._link(temporary, target):
                self._folders.settle(target.parent)
                return True
            if self._touch(target, content.size):
                return False
            with suppress(FileNotFoundError):  # a collector has moved it away since
                if target.stat().st_size != content.size:
                    return self._heal(temporary, self.naming.name(content.hexdigest))
        raise ObjectContended

    def _link(self, temporary: str, target: Path) -> bool:
        """Give a file its name; tell whether the name was free."""
        with suppress(FileExistsError):
            try:
                os.link(temporary, target)
            except FileNotFoundError:
                self._folders.make(target.parent)
                os.link(temporary, target)
            return True
        return False

    def _touch(self, target: Path, size: int) -> bool:
        """Say that the object is wanted; tell whether it is there, and whole."""
        with suppress(FileNotFoundError):
            os.utime(target)
            found = target.stat()
            if found.st_size == size:
                if found.st_nlink > 1:  # whoever has linked it has not come to its end, or never will
                    self._folders.settle(target.parent)
                return True
        return False

    def _heal(self, temporary: str, name: str) -> bool:
        """Put whole content in the place of a part of it, in one step; keep a link to what was there."""
        target, aside = self._path(name), self._path(CORRUPT + name)
        self._folders.make(aside.parent)
        aside.unlink(missing_ok=True)
        with suppress(FileExistsError):
            os.link(target, aside)
        second = f"{temporary}{_SECOND}"
        os.link(temporary, second)
        os.replace(second, target)
        self._folders.settle(target.parent)
        return True

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
        self._folders.make(aside.parent)
        with suppress(FileNotFoundError):
            if _time(source.stat().st_mtime) >= before:
                return False
            # Of one that was given back only half there are two links, between which a rename does nothing.
            if aside.exists():
                self._folders.settle(source.parent)
                aside.unlink()
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
        self._folders.make(aside.parent)
        with suppress(FileNotFoundError):
            target.replace(aside)
            if _version(aside) == version:
                return True
            with suppress(FileExistsError):
                os.link(aside, target)
                self._folders.settle(target.parent)
            aside.unlink()
        return False

    def restore(self, name: str) -> None:
        """Link the file to its name again, unless it has been put anew."""
        source, target = self._path(COLLECTED + name), self._path(name)
        self._folders.make(target.parent)
        with suppress(FileExistsError):
            os.link(source, target)
            os.utime(target)
        self._folders.settle(target.parent)
        source.unlink(missing_ok=True)

    def purge(self, name: str) -> None:
        """Delete the file."""
        self._path(COLLECTED + name).unlink(missing_ok=True)

    def leftovers(self, before: datetime, *, dry_run: bool) -> int:
        """Delete temporary files that nobody has written to since then, or that have been linked to their name."""
        count = 0
        for path in self._path(_TEMPORARY).glob("tmp*"):
            with suppress(FileNotFoundError):
                found = path.stat()
                is_linked = found.st_nlink > 1 and path.suffix != _SECOND
                if is_linked or _time(found.st_mtime) < before:
                    count += 1
                    if not dry_run:
                        self._remove(path, is_linked=is_linked)
        return count

    def _remove(self, path: Path, *, is_linked: bool) -> None:
        """Delete a temporary file; the writer may have died before it had made the other link durable."""
        if is_linked:
            with path.open("rb") as file:
                hexdigest = digest_of(iter(partial(file.read, CHUNK), b""), self.naming.algorithm)
            with suppress(FileNotFoundError):  # linked elsewhere, or collected since
                self._folders.settle(self._path(self.naming.name(hexdigest)).parent)
        path.unlink()

    def _path(self, name: str) -> Path:
        return Path(self.storage.path(self.prefix + name))


def _version(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_mtime_ns}"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

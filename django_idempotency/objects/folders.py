"""Folders that objects are linked into, made and made durable."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any


class Folders:
    """The folders below the prefix of a file system storage. Without ``fsync`` nothing waits for the disk."""

    def __init__(self, storage: Any, prefix: str, *, fsync: bool) -> None:
        self._storage, self._prefix, self._fsync = storage, prefix, fsync
        #: Those whose own entries are known to be durable, up to the root: another process may have made a folder
        #: and not have come to that yet.
        self._settled: set[Path] = set()

    _most_settled = 100_000

    def make(self, folder: Path) -> None:
        """Make a folder; one below the root becomes durable when it is settled."""
        if folder.is_dir():
            return
        self.make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=self._storage.directory_permissions_mode or 0o777)
            self._settled.discard(folder)
            if self._root not in folder.parents:
                self._sync(folder.parent)

    def settle(self, folder: Path) -> None:
        """Make the entries of a folder durable, and those that lead to it. Raises FileNotFoundError."""
        if not self._fsync:
            return
        self._sync(folder)
        root = self._root
        while folder not in self._settled and folder != root:
            if len(self._settled) >= self._most_settled:
                self._settled.clear()
            self._sync(folder.parent)
            self._settled.add(folder)
            folder = folder.parent

    def _sync(self, folder: Path) -> None:
        if os.name == "nt" or not self._fsync:
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    @property
    def _root(self) -> Path:
        return Path(self._storage.path(self._prefix))

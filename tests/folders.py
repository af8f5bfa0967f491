"""Folders that processes of a test run share, and that go with the one that has made them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile


def new_folder(name: str) -> str:
    """Make a folder that is deleted at the end of this process, not at that of a fork of it."""
    folder = tempfile.mkdtemp(prefix=f"django-idempotency-{name}-")
    atexit.register(_delete, folder, os.getpid())
    return folder


def _delete(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)

"""A projection that the command and the admin find by its name, for as long as a test runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_idempotency.reprocessing import projections


@contextmanager
def known(*found: Any) -> Iterator[None]:
    """Let these be among the projections of the project."""
    before = list(projections._registered)
    projections._registered.extend(found)
    try:
        yield
    finally:
        projections._registered[:] = before

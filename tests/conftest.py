"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from django_idempotency.audit import writing
from tests.callers import Caller
from tests.flushing import flush_quickly


@pytest.fixture(scope="session", autouse=True)
def _flush() -> Iterator[None]:
    """Empty the tables quickly."""
    with pytest.MonkeyPatch.context() as patch:
        flush_quickly(patch)
        yield


@pytest.fixture(autouse=True)
def _vendor(request: pytest.FixtureRequest) -> None:
    """Skip, loudly, what is about the other database."""
    for vendor in ("postgresql", "sqlite"):
        if request.node.get_closest_marker(vendor) and connection.vendor != vendor:
            pytest.skip(f"about {vendor}; this run is on {connection.vendor}")


@pytest.fixture(autouse=True)
def _nothing_waits() -> None:
    """Leave no audit event to the next test that could not be written down in this one."""
    writing._waiting.clear()


@pytest.fixture
def alice(transactional_db: None) -> Caller:
    """A user whose requests really commit."""
    return Caller("alice")


@pytest.fixture
def bob(transactional_db: None) -> Caller:
    """Another user."""
    return Caller("bob")

"""Fixtures of the tests about databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance import views_databases
from tests.conformance.views_databases import Moments

STORES = "tests.conformance.views_databases"


@pytest.fixture
def moments() -> Iterator[Moments]:
    yield views_databases.moments
    views_databases.moments.clear()


@pytest.fixture
def watched_store(settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": f"{STORES}.WatchedStore"}}


@pytest.fixture
def lockless_store(settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": f"{STORES}.LocklessStore"}}

"""Each test begins and ends without projections; they are tables, which no rollback of rows removes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from django_idempotency.signals import decision_made
from tests.reprocessing.projections import clear


@pytest.fixture(autouse=True)
def _cleared(transactional_db: None) -> Iterator[None]:
    clear()
    yield
    clear()


@pytest.fixture
def decisions() -> Iterator[list[dict[str, Any]]]:
    """What was told of decisions."""
    told: list[dict[str, Any]] = []

    def listen(**facts: Any) -> None:
        told.append(facts)

    decision_made.connect(listen)
    yield told
    decision_made.disconnect(listen)

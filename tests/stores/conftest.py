"""Fixtures of the tests about stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.campaigns.redis_faults import patiently_cached


@pytest.fixture
def redis() -> Iterator[Redis]:
    """Redis in front of the default store, and a client that looks into it."""
    with patiently_cached() as client:
        yield client

"""Fixtures of the jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.jobs.forks import Forks


@pytest.fixture(scope="package")
def forks(django_db_setup: None) -> Iterator[Forks]:
    """Workers in processes of their own, on the database of this run."""
    with Forks() as forks:
        yield forks

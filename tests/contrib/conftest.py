"""A bucket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3_servers import S3, started_s3


@pytest.fixture
def s3() -> Iterator[S3]:
    with started_s3() as made:
        yield made

"""A bucket, and a worker of Celery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.s3_servers import S3, started_s3

if TYPE_CHECKING:
    from tests.contrib.celery_workers import Worker

#: Seconds after which the broker delivers a message again that is not acknowledged: less than some tests take.
VISIBILITY = 1


@pytest.fixture
def s3() -> Iterator[S3]:
    with started_s3() as made:
        yield made


@pytest.fixture(scope="package")
def _worker(django_db_setup: None, django_db_blocker: Any) -> Iterator[Worker]:
    from tests.contrib.celery_workers import empty_broker, working

    with (
        django_db_blocker.unblock(),
        empty_broker(8) as url,
        working(url, options={"visibility_timeout": VISIBILITY}) as started,
    ):
        yield started


@pytest.fixture
def worker(_worker: Worker, transactional_db: None) -> Iterator[Worker]:
    """A worker that has nothing left to do after the test, whose database the next one would not know."""
    yield _worker
    _worker.rest()

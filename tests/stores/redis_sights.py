"""What Redis holds, and whether the database was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from redis import Redis

from django_idempotency.core.attempts import Attempt, Execution
from django_idempotency.core.execution import execute
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Operation
from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.testing import CREATED, DAY
from tests.models import Payment

KINDS = pytest.mark.parametrize("path", ["/required/", "/leased/"])


# The keys of records, without those of the counts beside them.
RECORDS = "*}" + "?" * 12 + "*"


def value(client: Redis) -> bytes | None:
    """Return what the one key of Redis holds, None if there is no key."""
    keys = client.keys(RECORDS)
    assert len(keys) <= 1
    return client.get(keys[0]) if keys else None


def is_record(data: bytes | None) -> bool:
    return data is not None and data.startswith(b"idempotency:1:record:")


def is_mark(data: bytes | None) -> bool:
    return data is not None and data.startswith(b"idempotency:1:mark:")


@contextmanager
def without_sql_of_records() -> Iterator[None]:
    """Fail if the table of records is asked."""

    def refuse(run: Callable[..., Any], sql: str, *args: Any) -> Any:
        assert "idempotency_record" not in sql, sql
        return run(sql, *args)

    with connection.execute_wrapper(refuse):
        yield


def pay(store: CachedDatabaseStore, operation: Operation, outcome: Outcome | None = CREATED) -> Execution[Payment]:
    """Execute an operation that writes a payment, and keeps an outcome if there is one."""
    return execute(
        store, operation, lambda claim: Attempt(answer=Payment.objects.create(amount=1), outcome=outcome), ttl=DAY
    )

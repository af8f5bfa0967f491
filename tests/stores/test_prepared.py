"""Statements are prepared where the project lets psycopg do so, and nowhere else: pgbouncer may be in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_idempotency.stores.base import Store
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.testing import StoreContract
from tests.callers import Caller, new_key
from tests.campaigns.sessions import connection_options

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def _prepared(transactional_db: None) -> Iterator[None]:
    with connection_options(prepare_threshold=0):
        yield


@pytest.mark.usefixtures("_prepared")
class TestPreparedDatabaseStore(StoreContract):
    def make_store(self) -> Store:
        return DatabaseStore()


def prepared() -> int:
    """Count what this session has prepared of the record table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%idempotency_record%'")
        return int(cursor.fetchone()[0])


def pay_and_retry(alice: Caller) -> list[int]:
    """Return how many statements of ours a fresh key and a replay took."""
    key, ours = new_key(), []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert alice.post("/payments/", {"amount": 3}, key=key).status_code == 201
        ours.append(sum("idempotency_record" in query["sql"] for query in queries))
    return ours


def test_nothing_is_prepared_by_default(alice: Caller) -> None:
    with connection_options():
        assert pay_and_retry(alice) == [2, 1]
        assert prepared() == 0


def test_both_statements_are_prepared_on_request(alice: Caller) -> None:
    with connection_options(prepare_threshold=0):
        assert pay_and_retry(alice) == [2, 1]
        assert prepared() == 2

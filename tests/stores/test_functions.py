"""The store's own functions on PostgreSQL: called where a session is kept, done without wherever they are not there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from django_idempotency.core.records import Claim
from django_idempotency.exceptions import ClaimLost
from django_idempotency.models import Record
from django_idempotency.stores.base import Store
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.installing import StoreFunctions
from django_idempotency.stores.postgresql import PostgreSQL
from django_idempotency.testing import CREATED, DAY, StoreContract, make_operation
from tests.campaigns.sessions import connection_options, other_sessions, sessions_kept
from tests.management.doctor import Doctor

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
BOTH = ["idempotency_claim", "idempotency_complete"]


@pytest.fixture
def _kept(transactional_db: None) -> Iterator[None]:
    with sessions_kept():
        yield


@pytest.fixture
def _unkept(transactional_db: None) -> Iterator[None]:
    with sessions_kept(kept=False):
        yield


@pytest.mark.usefixtures("_kept")
class TestKeptDatabaseStore(StoreContract):
    def make_store(self) -> Store:
        return DatabaseStore()


@pytest.mark.usefixtures("_unkept")
class TestUnkeptDatabaseStore(StoreContract):
    def make_store(self) -> Store:
        return DatabaseStore()


@contextmanager
def called() -> Iterator[list[str]]:
    """Yield a list that gets the functions that are called meanwhile, in their order."""
    from psycopg.pq import Trace

    names: list[str] = []
    connection.ensure_connection()
    raw = connection.connection.pgconn
    with tempfile.TemporaryFile("w+") as log:
        raw.trace(log.fileno())
        raw.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield names
        raw.untrace()
        log.seek(0)
        sent = [line for line in log.read().splitlines() if line.startswith("F\t")]
    names += [name for line in sent for name in BOTH if f"{name}_" in line]


def write(store: DatabaseStore) -> int:
    """Carry out an operation and find its outcome; return how many records there are."""
    operation = make_operation()
    for _ in range(2):
        with store.transaction():
            claim = store.claim(operation)
            if isinstance(claim, Claim):
                store.complete(claim, CREATED, ttl=DAY, last=True)
    assert not isinstance(claim, Claim)
    assert claim.outcome == CREATED
    return Record.objects.count()


def drop_functions() -> None:
    with connection.cursor() as cursor:
        for function in PostgreSQL(connection).functions:
            cursor.execute(f"DROP FUNCTION {function.name}")


def there() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT proname FROM pg_proc WHERE proname LIKE ANY(%s)", [[f"{name}\\_%" for name in BOTH]])
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.usefixtures("_kept")
def test_a_kept_session_calls_both_functions() -> None:
    with called() as names:
        assert write(DatabaseStore()) == 1
    assert names == [*BOTH, BOTH[0]]


def test_a_pooled_session_is_a_kept_one() -> None:
    with connection_options(pool={"min_size": 1, "max_size": 2}), called() as names:
        assert write(DatabaseStore()) == 1
    assert names == [*BOTH, BOTH[0]]


@pytest.mark.usefixtures("_unkept")
def test_a_session_that_ends_with_its_request_calls_none() -> None:
    with called() as names:
        assert write(DatabaseStore()) == 1
    assert names == []


@pytest.mark.usefixtures("_kept")
def test_without_the_functions_the_statements_are_sent_and_that_is_remembered() -> None:
    store = DatabaseStore()
    drop_functions()
    try:
        with called() as names:
            assert (write(store), write(store)) == (1, 2)
    finally:
        remigrate()
    assert names == [BOTH[0]]
    assert write(DatabaseStore()) == 3


@pytest.mark.usefixtures("_kept")
def test_functions_that_may_not_be_called_are_as_good_as_none() -> None:
    functions, store = PostgreSQL(connection).functions, DatabaseStore()
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE caller")
        cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO caller")
        cursor.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO caller")
        for function in functions:
            cursor.execute(f"REVOKE EXECUTE ON FUNCTION {function.name} FROM PUBLIC")
        cursor.execute("SET ROLE caller")
    try:
        with called() as names:
            assert write(store) == 1
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
            for function in functions:
                cursor.execute(f"GRANT EXECUTE ON FUNCTION {function.name} TO PUBLIC")
            cursor.execute("DROP OWNED BY caller")
            cursor.execute("DROP ROLE caller")
    assert names == [BOTH[0]]


@pytest.mark.usefixtures("_kept")
def test_a_rival_that_has_completed_is_told_by_the_function_too() -> None:
    store, operation = DatabaseStore(), make_operation()

    def complete() -> None:
        other = DatabaseStore()
        with other.transaction():
            other.complete(Claim(operation=operation), CREATED, ttl=DAY)

    def lose() -> None:
        with store.transaction():
            claim: Any = store.claim(operation)
            with other_sessions() as start:
                start(complete).result(30)
            store.complete(claim, CREATED, ttl=DAY, last=True)

    with called() as names, pytest.raises(ClaimLost):
        lose()
    assert names == BOTH
    assert Record.objects.count() == 1


def test_the_migration_creates_what_the_code_calls_and_takes_it_back() -> None:
    names = {function.name for function in PostgreSQL(connection).functions}
    assert there() == names
    call_command("migrate", "idempotency", "0004", verbosity=0)
    try:
        assert there() == set()
    finally:
        remigrate()
    assert there() == names


def test_the_newest_migration_is_about_the_functions_that_the_code_calls() -> None:
    migrations = [name for name in MigrationLoader(connection).disk_migrations.items() if name[0][0] == "idempotency"]
    operations = [operation for _, migration in sorted(migrations) for operation in migration.operations]
    newest = [operation for operation in operations if isinstance(operation, StoreFunctions)][-1]
    assert newest.names == tuple(function.name for function in PostgreSQL(connection).functions)


def test_the_doctor_misses_them() -> None:
    doctor = Doctor()
    assert "The functions of the store are there." in doctor.text
    drop_functions()
    try:
        doctor = Doctor()
    finally:
        remigrate()
    assert len(doctor.fact("missing_functions")) == 2
    assert "sqlmigrate idempotency 0005" in doctor.text


def test_another_statement_is_another_function() -> None:
    claim, complete = PostgreSQL(connection).functions
    assert claim.name != complete.name
    assert {len(claim.name), len(complete.name)} == {len(BOTH[0]) + 9, len(BOTH[1]) + 9}


def remigrate() -> None:
    call_command("migrate", "idempotency", "0004", verbosity=0)
    call_command("migrate", "idempotency", verbosity=0)

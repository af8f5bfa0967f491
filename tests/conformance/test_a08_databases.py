"""A8: PostgreSQL, SQLite and Django."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import chain, repeat
from threading import Barrier
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.models import F
from django.test import TestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.records import Claim
from django_idempotency.core.records import Record as StoredRecord
from django_idempotency.exceptions import ClaimLost
from django_idempotency.stores import get_store
from django_idempotency.stores.database import DatabaseStore
from django_idempotency.stores.models import Record
from django_idempotency.testing import make_operation
from tests.callers import Caller, new_key
from tests.campaigns import pgbouncer
from tests.campaigns.failpoints import HEADER
from tests.campaigns.harness import Server, eventually
from tests.campaigns.sessions import (
    PATIENCE,
    Gate,
    advisory_locks,
    atomic_requests,
    connection_options,
    other_sessions,
    seen_from_outside,
)
from tests.conformance import views_databases
from tests.conformance.views_databases import LocklessStore, Moments
from tests.models import Payment

URLS = "tests.conformance.urls_databases"
STORES = "tests.conformance.views_databases"
DAY = timedelta(days=1)
pytestmark = pytest.mark.urls(URLS)


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


@pytest.fixture(params=["REPEATABLE_READ", "SERIALIZABLE"])
def strict_isolation(request: pytest.FixtureRequest, alice: Caller) -> Iterator[None]:
    from psycopg import IsolationLevel

    with connection_options(isolation_level=IsolationLevel[request.param]):
        yield


def rows() -> tuple[int, int]:
    """Count effects and records."""
    return Payment.objects.count(), Record.objects.count()


def expire(key: str) -> None:
    """Let the record of a key have expired an hour ago."""
    an_hour_ago = timezone.now() - timedelta(hours=1)
    assert Record.objects.filter(key=key).update(expires_at=an_hour_ago) == 1


# 99 and 100: the unique row


@pytest.mark.postgresql
def test_a8_99_losing_to_a_rival_leaves_an_outer_transaction_usable(
    alice: Caller, moments: Moments, lockless_store: None
) -> None:
    request = partial(alice.post, "/watched/", {"amount": 3}, key=new_key())
    moments.once_at("before write", lambda: seen_from_outside(request))
    with transaction.atomic():
        loser = request()
        assert (loser.status_code, loser["Idempotent-Replayed"]) == (201, "true")
        Payment.objects.create(amount=4)
    assert rows() == (2, 1)


@pytest.mark.postgresql  # an open transaction on SQLite is the only writer: nothing refuses its claim
def test_a8_99_a_refused_claim_leaves_an_outer_transaction_usable(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()
    moments.at("after write", gate)
    with other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        with transaction.atomic():
            assert alice.post("/watched/", {"amount": 3}, key=key).status_code == 409
            assert alice.post("/watched/", {"amount": 4}, key=key).status_code == 422
            Payment.objects.create(amount=4)
        gate.open()
        assert winner.result(PATIENCE).status_code == 201
    assert rows() == (2, 1)


@pytest.mark.postgresql
@pytest.mark.parametrize("rolls_back", [False, True])
def test_a8_100_who_inserts_second_waits_and_then_loses_or_takes_over(
    alice: Caller, moments: Moments, rolls_back: bool
) -> None:
    store, operation, gate = LocklessStore(), make_operation(), Gate()
    moments.once_at("after complete", gate)

    def insert_first() -> None:
        with store.transaction() as first:
            store.complete(_won(store.claim(operation)), Outcome(status=201, body=b"first"), ttl=DAY)
            if rolls_back:
                first.rollback()

    def insert_second() -> bytes | None:
        try:
            with store.transaction():
                store.complete(_won(store.claim(operation)), Outcome(status=201, body=b"second"), ttl=DAY)
        except ClaimLost:
            pass
        with store.transaction():
            found = store.claim(operation)
        assert isinstance(found, StoredRecord)
        return found.outcome.body

    with other_sessions() as start:
        first = start(insert_first)
        gate.wait_until_reached()
        second = start(insert_second)
        eventually(_somebody_waits_for_a_row, "the second insert waits for the first")
        gate.open()
        first.result(PATIENCE)
        assert second.result(PATIENCE) == (b"second" if rolls_back else b"first")


def _won(found: Claim | StoredRecord) -> Claim:
    assert isinstance(found, Claim)
    return found


def _somebody_waits_for_a_row() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        return bool(cursor.fetchone()[0])


# 101: isolation levels


@pytest.mark.postgresql
@pytest.mark.parametrize("path", ["/watched/", "/retried/"])
def test_a8_101_of_two_that_both_run_one_commits(
    alice: Caller, moments: Moments, lockless_store: None, strict_isolation: None, path: str
) -> None:
    key, both_run = new_key(), Barrier(2)
    moments.at("after write", lambda: both_run.wait(PATIENCE))
    with other_sessions() as start:
        pair = [start(alice.post, path, {"amount": 3}, key=key) for _ in range(2)]
        answers = sorted((future.result(PATIENCE) for future in pair), key=lambda answer: answer.status_code)
    retry = alice.post(path, {"amount": 3}, key=key)
    if path == "/watched/":
        assert [answer.status_code for answer in answers] == [201, 503]
        assert (answers[1]["Retry-After"], answers[1].json()["code"]) == ("1", "store-unavailable")
    else:
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].content == answers[1].content
    assert (retry.status_code, retry.content, retry["Idempotent-Replayed"]) == (201, answers[0].content, "true")
    assert rows() == (1, 1)


@pytest.mark.postgresql
@pytest.mark.parametrize("path", ["/watched/", "/retried/"])
def test_a8_101_a_conflict_over_the_effects_stores_nothing_and_may_be_run_again(
    alice: Caller, moments: Moments, strict_isolation: None, path: str
) -> None:
    account, key = Payment.objects.create(amount=0, reference="account"), new_key()
    deposit = partial(Payment.objects.filter(pk=account.pk).update, amount=F("amount") + 1)
    rivals = iter([deposit])

    def deposit_after_a_rival() -> None:
        for rival in rivals:
            seen_from_outside(rival)
        deposit()

    moments.at("before write", deposit_after_a_rival)
    first = alice.post(path, {"amount": 3}, key=key)
    if path == "/watched/":
        assert (first.status_code, first["Retry-After"], rows()) == (503, "1", (1, 0))
        assert alice.post(path, {"amount": 3}, key=key).status_code == 201
    else:
        assert (first.status_code, first.has_header("Idempotent-Replayed")) == (201, False)
    account.refresh_from_db()
    assert (account.amount, rows()) == (2, (2, 1))


@pytest.mark.postgresql
def test_a8_101_a_deadlock_stores_nothing_and_is_run_again(alice: Caller, moments: Moments) -> None:
    one, other = (Payment.objects.create(amount=0, reference="account") for _ in range(2))
    meet = partial(Barrier(2).wait, PATIENCE)
    plans = chain([(one, other, meet), (other, one, meet)], repeat((one, other, bool)))
    runs: list[Payment] = []

    def deposit() -> None:
        first, second, pause = next(plans)
        runs.append(first)
        Payment.objects.filter(pk=first.pk).update(amount=F("amount") + 1)
        pause()
        Payment.objects.filter(pk=second.pk).update(amount=F("amount") + 1)

    moments.at("before write", deposit)
    with other_sessions() as start:
        pair = [start(alice.post, "/retried/", {"amount": 3}, key=new_key()) for _ in range(2)]
        assert [future.result(PATIENCE).status_code for future in pair] == [201, 201]
    assert len(runs) >= 3
    assert list(Payment.objects.filter(reference="account").values_list("amount", flat=True)) == [2, 2]
    assert rows() == (4, 2)


# 102: pgbouncer

needs_pgbouncer = pytest.mark.skipif(not pgbouncer.is_installed(), reason="pgbouncer is not installed")


@needs_pgbouncer
@pytest.mark.postgresql
def test_a8_102_it_works_through_a_pool_by_transaction(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()
    moments.once_at("after write", gate)
    with pgbouncer.transaction_pool(2) as address, connection_options(**address), other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        waiter = start(alice.post, "/watched/", {"amount": 3}, key=key, headers={"Prefer": "wait=10"})
        pairs = [start(alice.post, "/watched/", {"amount": 3}, key=other) for other in [new_key()] * 4 + [new_key()]]
        assert alice.post("/watched/", {"amount": 3}, key=key).status_code == 409
        assert alice.post("/watched/", {"amount": 4}, key=key).status_code == 422
        assert {pair.result(PATIENCE).status_code for pair in pairs} <= {201, 409}
        gate.open()
        assert [request.result(PATIENCE).status_code for request in (winner, waiter)] == [201, 201]
        assert waiter.result()["Idempotent-Replayed"] == "true"
        assert rows() == (3, 3)
        assert advisory_locks() == 0


@needs_pgbouncer
@pytest.mark.postgresql
@pytest.mark.parametrize("step", ["after claim", "after complete", "after commit"])
def test_a8_102_a_kill_behind_the_pool_frees_the_key(alice: Caller, step: str) -> None:
    key = new_key()
    with pgbouncer.transaction_pool(2) as address, Server(token=alice.token.key, options=address) as server:
        with pytest.raises(ConnectionError):
            server.post("/payments/", {"amount": 3}, key=key, headers={HEADER: step})
        eventually(lambda: advisory_locks() == 0, "the end of the dead worker's transaction")
        retry = server.post("/payments/", {"amount": 3}, key=key)
    assert (retry.status, retry.is_replayed) == (201, step == "after commit")
    assert rows() == (1, 1)


# 103: a duplicate in flight


@pytest.mark.postgresql
@pytest.mark.parametrize("moment", ["before write", "after write", "after complete"])
def test_a8_103_a_duplicate_does_not_hang_behind_the_open_transaction(
    alice: Caller, moments: Moments, watched_store: None, moment: str
) -> None:
    key, gate = new_key(), Gate()
    moments.at(moment, gate)
    with other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        duplicate = alice.post("/watched/", {"amount": 3}, key=key)
        mismatch = alice.post("/watched/", {"amount": 4}, key=key)
        assert not winner.done()
        gate.open()
        assert winner.result(PATIENCE).status_code == 201
    assert (duplicate.status_code, duplicate["Retry-After"]) == (409, "1")
    assert (mismatch.status_code, mismatch.has_header("Retry-After")) == (422, False)


@pytest.mark.sqlite
def test_a8_103_on_sqlite_a_duplicate_waits_no_longer_than_the_busy_time_out(alice: Caller, moments: Moments) -> None:
    key, gate = new_key(), Gate()
    moments.at("after write", gate)
    with connection_options(timeout=0.1), other_sessions() as start:
        winner = start(alice.post, "/watched/", {"amount": 3}, key=key)
        gate.wait_until_reached()
        duplicate = alice.post("/watched/", {"amount": 3}, key=key)
        assert not winner.done()
        gate.open()
        assert winner.result(PATIENCE).status_code == 201
    assert (duplicate.status_code, duplicate["Retry-After"]) == (409, "1")


# 104: Django's transactions


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("path", ["/transactional/", "/non-atomic-class/", "/non-atomic-route/"])
def test_a8_104_with_a_key_the_engine_has_its_transaction_whatever_atomic_requests_says(
    alice: Caller, path: str, atomic: bool
) -> None:
    key = new_key()
    with atomic_requests(atomic):
        first = alice.post(path, {"amount": 3}, key=key)
        again = alice.post(path, {"amount": 3}, key=key)
    assert (first.status_code, first.json()["reference"]) == (201, "in a transaction")
    assert (again.content, again["Idempotent-Replayed"], rows()) == (first.content, "true", (1, 1))


@pytest.mark.parametrize(
    ("path", "atomic", "expected"),
    [
        ("/transactional/", False, "autocommit"),
        ("/transactional/", True, "in a transaction"),
        ("/non-atomic-class/", True, "autocommit"),
        ("/non-atomic-route/", True, "autocommit"),
    ],
)
def test_a8_104_without_a_key_atomic_requests_means_what_it_says(
    alice: Caller, path: str, atomic: bool, expected: str
) -> None:
    with atomic_requests(atomic):
        written = alice.post(path, {"amount": 3})
        refused = alice.post(path, {"amount": 3, "reference": "refused"})
    assert (written.status_code, written.json()["reference"]) == (201, expected)
    assert refused.status_code == 400
    assert Payment.objects.filter(reference="refused").exists() == (expected == "autocommit")


@pytest.mark.parametrize("atomic", [False, True])
def test_a8_104_a_durable_block_in_the_view_is_refused_as_under_atomic_requests(alice: Caller, atomic: bool) -> None:
    with atomic_requests(atomic):
        failed = alice.post("/transactional/", {"amount": 3, "reference": "durable"}, key=new_key())
    assert (failed.status_code, rows()) == (500, (0, 0))
    assert isinstance(failed.exc_info[1], RuntimeError)
    assert "durable" in str(failed.exc_info[1])


def test_a8_104_a_savepoint_in_the_view_rolls_back_alone(alice: Caller) -> None:
    assert alice.post("/transactional/", {"amount": 3, "reference": "savepoint"}, key=new_key()).status_code == 201
    assert [payment.reference for payment in Payment.objects.all()] == ["savepoint"]
    assert Record.objects.count() == 1


@pytest.mark.parametrize("atomic", [False, True])
def test_a8_104_an_outer_transaction_holds_effect_and_record(alice: Caller, atomic: bool) -> None:
    key = new_key()
    with atomic_requests(atomic):
        with transaction.atomic():
            first = alice.post("/watched/", {"amount": 3}, key=key)
            again = alice.post("/watched/", {"amount": 3}, key=key)
            assert (again.content, again["Idempotent-Replayed"], rows()) == (first.content, "true", (1, 1))
            transaction.set_rollback(True)
        assert rows() == (0, 0)
        retry = alice.post("/watched/", {"amount": 3}, key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))


@override_settings(ROOT_URLCONF=URLS)
class WithinATestCase(TestCase):
    """Everything happens in the transaction of the test."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.alice = Caller("alice")

    def test_a8_104_a_fresh_key_and_its_replay(self) -> None:
        for atomic in (False, True):
            with self.subTest(atomic=atomic), atomic_requests(atomic):
                key = new_key()
                first = self.alice.post("/watched/", {"amount": 3}, key=key)
                again = self.alice.post("/watched/", {"amount": 3}, key=key)
                assert (first.status_code, again.status_code) == (201, 201)
                assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
        assert rows() == (2, 2)

    def test_a8_104_refusals_leave_the_transaction_of_the_test_usable(self) -> None:
        stranger = {"Authorization": "Token unknown"}
        with atomic_requests(True):
            answers = [
                self.alice.post("/transactional/", {"amount": 3, "reference": "refused"}, key=new_key()),
                self.alice.post("/transactional/", {"amount": 3, "reference": "refused"}),
                self.alice.post("/watched/", {"amount": "much"}, key=new_key()),
                self.alice.post("/watched/", "{", key=new_key()),
                self.alice.post("/watched/", {"amount": 3}, key=new_key(), headers=stranger),
                self.alice.post("/watched/", {"amount": 3}, raw_key="malformed"),
                self.alice.post("/watched/", {"amount": 3}),
                self.alice.send("GET", "/watched/0/"),
                self.alice.send("PUT", "/watched/", {"amount": 3}),
            ]
            fresh = self.alice.post("/watched/", {"amount": 3}, key=new_key())
        assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 401, 400, 400, 404, 405]
        assert (fresh.status_code, Payment.objects.count()) == (201, 1)
        assert not connection.needs_rollback


@override_settings(ROOT_URLCONF=URLS)
class WithinATransactionTestCase(TransactionTestCase):
    """Everything is committed."""

    def test_a8_104_a_fresh_key_and_its_replay(self) -> None:
        alice, key = Caller("alice"), new_key()
        first = alice.post("/watched/", {"amount": 3}, key=key)
        again = alice.post("/watched/", {"amount": 3}, key=key)
        assert (first.status_code, again["Idempotent-Replayed"], again.content) == (201, "true", first.content)
        assert seen_from_outside(rows) == (1, 1)


# 105 and 106: aliases


class ReadsFromReplica:
    """Sends reads of payments and records to a replica."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model in (Payment, Record) else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "default" if model in (Payment, Record) else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == "replica" else None


class WritesElsewhere:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "replica" if model is Record else None


@contextmanager
def forbidden_replica() -> Iterator[None]:
    """Configure a second alias, to which Django's test case lets nobody connect."""
    connections.settings["replica"] = connections.settings["default"].copy()
    try:
        yield
    finally:
        del connections["replica"]
        del connections.settings["replica"]


def test_a8_105_the_store_reads_and_writes_where_records_are_written(alice: Caller, settings: Any) -> None:
    key = new_key()
    with forbidden_replica():
        settings.DATABASE_ROUTERS = [ReadsFromReplica()]
        with pytest.raises(AssertionError, match="connections to 'replica' are not allowed"):
            Record.objects.count()
        first = alice.post("/watched/", {"amount": 3}, key=key)
        again = alice.post("/watched/", {"amount": 3}, key=key)
        assert DatabaseStore().alias == "default"
        assert DatabaseStore().count_expired() == 0
        assert list(DatabaseStore().purge(batch_size=10)) == []
        settings.DATABASE_ROUTERS = []
    assert (first.status_code, again.content, again["Idempotent-Replayed"]) == (201, first.content, "true")
    assert rows() == (1, 1)


def _check_ids(store: DatabaseStore) -> list[str | None]:
    return [message.id for message in store.check()]


def test_a8_106_a_store_beside_the_database_of_the_records_is_reported(alice: Caller, settings: Any) -> None:
    with forbidden_replica():
        assert _check_ids(DatabaseStore()) == []
        settings.DATABASE_ROUTERS = [ReadsFromReplica()]
        assert _check_ids(DatabaseStore()) == []
        assert _check_ids(DatabaseStore(using="replica")) == ["idempotency.E012"]
        settings.DATABASE_ROUTERS = [WritesElsewhere()]
        assert _check_ids(DatabaseStore(using="default")) == ["idempotency.W012"]
        assert _check_ids(DatabaseStore()) == []
        settings.DATABASE_ROUTERS = []
    assert _check_ids(DatabaseStore(using="replica")) == ["idempotency.E010"]


# 107: purge


def keep_expired(alice: Caller, number: int) -> list[str]:
    """Keep some outcomes that have expired, and return their keys."""
    keys = [new_key() for _ in range(number)]
    for key in keys:
        assert alice.post("/watched/", {"amount": 3}, key=key).status_code == 201
        expire(key)
    return keys


def purge(batch_size: int = 100) -> list[int]:
    return list(get_store().purge(batch_size=batch_size))


def test_a8_107_purge_deletes_expired_outcomes_in_batches(alice: Caller) -> None:
    keep_expired(alice, 5)
    live = new_key()
    alice.post("/watched/", {"amount": 3}, key=live)
    assert get_store().count_expired() == 5
    assert purge(batch_size=2) == [2, 2, 1]
    assert [record.key for record in Record.objects.all()] == [live]


def test_a8_107_each_batch_is_committed_before_the_next(alice: Caller) -> None:
    keep_expired(alice, 3)
    left = [seen_from_outside(Record.objects.count) for _ in get_store().purge(batch_size=1)]
    assert left == [2, 1, 0]


@pytest.mark.parametrize("status", [Record.Status.IN_PROGRESS, Record.Status.UNKNOWN])
def test_a8_107_purge_never_removes_what_is_not_completed(alice: Caller, status: str) -> None:
    (key,) = keep_expired(alice, 1)
    Record.objects.filter(key=key).update(status=status)
    assert (get_store().count_expired(), purge(), Record.objects.count()) == (0, [], 1)


@pytest.mark.postgresql
def test_a8_107_purge_leaves_out_what_another_session_has_locked(alice: Caller) -> None:
    locked, *_ = keep_expired(alice, 3)
    gate = Gate()

    def hold() -> None:
        with transaction.atomic():
            Record.objects.select_for_update().get(key=locked)
            gate()

    with other_sessions() as start:
        holder = start(hold)
        gate.wait_until_reached()
        assert purge() == [2]
        assert [record.key for record in Record.objects.all()] == [locked]
        gate.open()
        holder.result(PATIENCE)
    assert purge() == [1]


def test_a8_107_an_expired_outcome_is_absent_before_any_purge(alice: Caller) -> None:
    (key,) = keep_expired(alice, 1)
    again = alice.post("/watched/", {"amount": 4}, key=key)
    assert (again.status_code, again.has_header("Idempotent-Replayed"), rows()) == (201, False, (2, 1))
    assert purge() == []
    replay = alice.post("/watched/", {"amount": 4}, key=key)
    assert (replay.content, replay["Idempotent-Replayed"]) == (again.content, "true")


@pytest.mark.parametrize("moment", ["before write", "after complete"])
def test_a8_107_purge_during_the_takeover_of_an_expired_key_does_no_harm(
    alice: Caller, moments: Moments, watched_store: None, moment: str
) -> None:
    key, bystander = keep_expired(alice, 2)
    gate = Gate()
    moments.once_at(moment, gate)
    with other_sessions() as start:
        takeover = start(alice.post, "/watched/", {"amount": 4}, key=key)
        gate.wait_until_reached()
        purging = start(purge)
        if connection.vendor == "postgresql":
            assert sum(purging.result(PATIENCE)) == (2 if moment == "before write" else 1)
        gate.open()
        assert takeover.result(PATIENCE).status_code == 201
        purging.result(PATIENCE)
    replay = alice.post("/watched/", {"amount": 4}, key=key)
    assert (replay.content, replay["Idempotent-Replayed"]) == (takeover.result().content, "true")
    assert not Record.objects.filter(key=bystander).exists()
    assert rows() == (3, 1)


# 109: migrations


def _tables() -> set[str]:
    return {name for name in connection.introspection.table_names() if name.startswith("idempotency_")}


def test_a8_109_migrations_are_reversible(alice: Caller) -> None:
    tables = _tables()
    assert Record._meta.db_table in tables
    try:
        call_command("migrate", "idempotency", "zero", verbosity=0)
        assert _tables() == set()
    finally:
        call_command("migrate", "idempotency", verbosity=0)
    assert _tables() == tables
    key = new_key()
    assert [alice.post("/watched/", {"amount": 3}, key=key).status_code for _ in range(2)] == [201, 201]
    assert rows() == (1, 1)


@pytest.mark.django_db
def test_a8_109_no_migration_is_missing() -> None:
    call_command("makemigrations", "idempotency", check=True, dry_run=True, verbosity=0)


def test_a8_109_migrations_touch_no_other_table() -> None:
    from django.db.migrations import operations
    from django.db.migrations.loader import MigrationLoader

    for (app, name), migration in MigrationLoader(None).disk_migrations.items():
        if app == "idempotency":
            assert migration.atomic, name
            assert all(isinstance(operation, operations.CreateModel) for operation in migration.operations), name


# The cost in statements


def statements(alice: Caller, path: str, key: str | None = None) -> list[str]:
    """Return the first word of each statement of a request, transactions included."""
    with CaptureQueriesContext(connection) as queries:
        assert alice.post(path, {"amount": 3}, key=key).status_code == 201
    return [query["sql"].split()[0] for query in queries.captured_queries]


def sent(alice: Caller, path: str, key: str | None = None) -> list[str]:
    """Return the same as libpq sees it on the wire."""
    from psycopg.pq import Trace

    connection.ensure_connection()
    wire = connection.connection.pgconn
    with tempfile.TemporaryFile("w+") as log:
        wire.trace(log.fileno())
        wire.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        assert alice.post(path, {"amount": 3}, key=key).status_code == 201
        wire.untrace()
        log.seek(0)
        messages = [line.split("\t") for line in log.read().splitlines() if line.startswith("F\t")]
    assert {kind for _, _, kind, *_ in messages} == {"Query"}
    return [text.split('"')[1].split()[0] for *_, text in messages]


@pytest.mark.postgresql
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    "measured",
    [
        pytest.param(statements, id="as Django counts"),
        pytest.param(
            sent,
            id="on the wire",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="libpq traces to a file on Linux alone"),
        ),
    ],
)
def test_statement_counts_a_fresh_key_costs_two_statements_and_a_replay_one(
    alice: Caller, atomic: bool, measured: Callable[..., list[str]]
) -> None:
    key = new_key()
    with atomic_requests(True):
        plain = measured(alice, "/plain/")
    with atomic_requests(atomic):
        fresh, replay = measured(alice, "/payments/", key), measured(alice, "/payments/", key)
    authentication = ["SELECT"]
    assert plain == ["BEGIN", *authentication, "INSERT", "COMMIT"]
    assert fresh == [*authentication, "BEGIN", "SELECT", "INSERT", "INSERT", "COMMIT"]
    assert replay == [*authentication, "BEGIN", "SELECT", "COMMIT"]
    assert len(fresh) == len(plain) + 2

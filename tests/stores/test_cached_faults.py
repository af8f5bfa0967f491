"""Redis in front of the database, full of what is not ours or failing; and a database that fails behind it."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.db import ProgrammingError, connection
from redis import Redis

from django_idempotency.core.attempts import Attempt
from django_idempotency.core.execution import execute
from django_idempotency.core.leases import LeaseTerms
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.stores import get_store
from django_idempotency.stores.cached import CachedDatabaseStore
from django_idempotency.testing import DAY, make_operation
from tests.callers import Caller, new_key
from tests.campaigns.redis_faults import RedisServer, free_port
from tests.conformance.views_responses import scripted
from tests.records import rows
from tests.redis_servers import cached_by
from tests.stores.redis_sights import KINDS, RECORDS, is_record, pay, value

pytestmark = pytest.mark.urls("tests.conformance.urls_redis")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


FOREIGN: dict[str, Callable[[Any, bytes, bytes, Path], Any]] = {
    "empty": lambda client, name, kept, trap: client.set(name, b""),
    "junk": lambda client, name, kept, trap: client.set(name, os.urandom(300)),
    "half": lambda client, name, kept, trap: client.set(name, kept[: len(kept) // 2]),
    "without its end": lambda client, name, kept, trap: client.set(name, kept[:-1]),
    "other body": lambda client, name, kept, trap: client.set(name, kept.replace(b'"id"', b'"di"')),
    "another version": lambda client, name, kept, trap: client.set(name, kept.replace(b"cy:1:", b"cy:2:", 1)),
    "a pickle": lambda client, name, kept, trap: client.set(name, pickle.dumps(Trap(trap))),
    "a pickle in our clothes": lambda client, name, kept, trap: client.set(name, kept[:21] + pickle.dumps(Trap(trap))),
    "a mark for ever": lambda client, name, kept, trap: client.set(name, b"idempotency:1:mark:" + kept[21:]),
    "a list": lambda client, name, kept, trap: client.delete(name) and client.lpush(name, kept),
    "a hash": lambda client, name, kept, trap: client.delete(name) and client.hset(name, "status", "completed"),
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a9_115_what_is_not_ours_is_never_loaded_and_the_database_answers(
    alice: Caller, redis: Redis, foreign: str, tmp_path: Path
) -> None:
    key, trap = new_key(), tmp_path / "sprung"
    with scripted() as script:
        first = alice.post("/required/", key=key)
        (name,) = redis.keys(RECORDS)
        FOREIGN[foreign](redis, name, redis.get(name), trap)
        again = alice.post("/required/", key=key)
        assert is_record(value(redis))
    assert (again.status_code, again.content) == (201, first.content)
    assert (script.calls, rows()) == (1, (1, 1))
    assert not trap.exists()


def test_an_outcome_that_was_moved_to_another_key_is_not_believed(alice: Caller, bob: Caller, redis: Redis) -> None:
    key = new_key()
    with scripted() as script:
        first = alice.post("/required/", key=key)
        (of_alice,) = redis.keys(RECORDS)
        other = bob.post("/required/", key=key)
        (of_bob,) = set(redis.keys(RECORDS)) - {of_alice}
        redis.set(of_bob, redis.get(of_alice))
        again = bob.post("/required/", key=key)
    assert again.content == other.content != first.content
    assert script.calls == 2
    assert not any(key.encode() in name or b"user" in name for name in (of_alice, of_bob))


@contextmanager
def out_of_memory(server: RedisServer) -> Iterator[None]:
    server.client.config_set("maxmemory", 1)
    yield


@contextmanager
def read_only(server: RedisServer) -> Iterator[None]:
    server.client.replicaof("127.0.0.1", free_port())
    yield


@contextmanager
def refused(server: RedisServer) -> Iterator[None]:
    server.kill()
    yield


@contextmanager
def silent(server: RedisServer) -> Iterator[None]:
    with server.stopped():
        yield


@KINDS
@pytest.mark.parametrize("broken", [out_of_memory, read_only, refused, silent])
def test_a_failing_redis_is_survived_counted_and_logged_without_keys(
    alice: Caller, path: str, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key = new_key()
    with RedisServer() as server, cached_by(server.url), scripted() as script:
        before = alice.post(path, key=key)
        with broken(server), caplog.at_level(logging.DEBUG, "django_idempotency"):
            kept = alice.post(path, key=key)
            other = new_key()
            first, again = (alice.post(path, key=other) for _ in range(2))
        caches["default"].close()
        counted = get_store("default").redis.failures  # type: ignore[attr-defined]
    assert kept.content == before.content
    assert (first.status_code, again.content) == (201, first.content)
    assert (script.calls, rows()) == (2, (2, 2))
    assert counted >= 2
    told = {record.getMessage().partition(":")[0] for record in caplog.records if record.name == "django_idempotency"}
    assert told == {"Redis failed"}
    assert not any(word in caplog.text for word in (key, other, "idempotency:1", "nonce"))


@contextmanager
def without_a_database() -> Iterator[None]:
    """Let this thread connect to where no database is."""
    nowhere = {"NAME": "/nowhere/database.sqlite3"} if connection.vendor == "sqlite" else {"PORT": str(free_port())}
    connection.close()
    settings, original = connection.settings_dict, {**connection.settings_dict}
    settings.update({"HOST": "127.0.0.1", **nowhere})
    try:
        yield
    finally:
        connection.close()
        settings.update(original)


@contextmanager
def without_a_table() -> Iterator[None]:
    """Let the records be somewhere else."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE idempotency_record RENAME TO idempotency_away")
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE idempotency_away RENAME TO idempotency_record")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broken", [without_a_database, without_a_table])
def test_a_database_that_fails_leaves_no_mark(redis: Redis, broken: Any) -> None:
    """The next request is told of the failure as well, not that one is in progress."""
    store, operation = CachedDatabaseStore(), make_operation()
    with broken():
        for _ in range(2):
            with pytest.raises((StoreUnavailable, ProgrammingError)):
                pay(store, operation)
            assert value(redis) is None
        with pytest.raises((StoreUnavailable, ProgrammingError)):
            execute(store, operation, never, ttl=DAY, lease=LeaseTerms())
        assert value(redis) is None
    assert pay(store, operation).replayed is None


def never(claim: Any) -> Attempt[Any]:
    raise AssertionError("this must not run")

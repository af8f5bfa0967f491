"""What a key costs where Redis is in front, in SQL statements and in round trips to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.callers import Caller, new_key
from tests.campaigns.redis_faults import patiently_cached
from tests.campaigns.sessions import atomic_requests
from tests.conformance.test_statement_counts import statements
from tests.conformance.views_responses import created, in_flight, scripted

pytestmark = pytest.mark.urls("tests.conformance.urls_redis")
BEGIN, END = "the beginning of an exchange", "its end"
KINDS = pytest.mark.parametrize("path", ["/required/", "/leased/"])
ADMISSION = ["SELECT", "SELECT"]  # authentication and permission


@pytest.fixture
def client(alice: Caller) -> Iterator[redis.Redis]:
    with patiently_cached() as client, scripted():
        alice.post("/required/", key=new_key())  # loads the scripts
        with scripted(broken):
            alice.post("/required/", key=new_key())
        yield client


def broken(request: Any) -> Any:
    raise ArithmeticError


class Exchanges:
    """What clients have asked of the server, as the server saw it; what its scripts did is no round trip."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.commands: list[str] = []

    def __enter__(self) -> list[str]:
        self._monitor = self._client.monitor().__enter__()
        self._thread = Thread(target=self._listen)
        self._thread.start()
        self._client.echo(BEGIN)
        return self.commands

    def _listen(self) -> None:
        for seen in self._monitor.listen():
            if seen["command"] == f"ECHO {END}":
                return
            if seen["command"] == f"ECHO {BEGIN}":
                self.commands.clear()  # how our own client has connected
            elif seen["client_type"] != "lua":
                self.commands.append(seen["command"].split()[0].upper())

    def __exit__(self, *error: object) -> None:
        self._client.echo(END)
        self._thread.join(30)
        self._monitor.__exit__(*error)


def cost(alice: Caller, client: redis.Redis, path: str, key: str) -> tuple[list[str], list[str]]:
    with Exchanges(client) as commands:
        sql = statements(alice, path, key)
    return sql, commands


@pytest.mark.postgresql
@pytest.mark.parametrize("atomic", [False, True])
def test_a_fresh_key_costs_two_statements_and_two_round_trips_and_a_replay_one(
    alice: Caller, client: redis.Redis, atomic: bool
) -> None:
    key = new_key()
    with atomic_requests(True):
        plain = statements(alice, "/plain/")
    with atomic_requests(atomic):
        fresh, on_redis = cost(alice, client, "/payments/", key)
        replay, on_redis_again = cost(alice, client, "/payments/", key)
    assert plain == ["BEGIN", "SELECT", "INSERT", "COMMIT"]
    assert len(fresh) == len(plain) + 2
    assert fresh.count("COMMIT") == 1
    assert on_redis == ["EVALSHA", "SET"]
    assert replay == ["SELECT"]  # the authentication
    assert on_redis_again == ["EVALSHA"]


@KINDS
def test_a_replay_costs_no_statement_of_ours_and_one_round_trip(alice: Caller, client: redis.Redis, path: str) -> None:
    key = new_key()
    with scripted():
        _, fresh = cost(alice, client, path, key)
        replay = cost(alice, client, path, key)
    assert fresh == ["EVALSHA", "SET"]
    assert replay == (ADMISSION, ["EVALSHA"])


def test_a_duplicate_in_flight_costs_no_statement_of_ours_and_one_round_trip(
    alice: Caller, client: redis.Redis
) -> None:
    key = new_key()
    with in_flight(alice, "/required/", key=key) as flight:
        with Exchanges(client) as commands, CaptureQueriesContext(connection) as queries:
            assert alice.post("/required/", key=key).status_code == 409
        flight.land()
    assert [query["sql"].split()[0] for query in queries.captured_queries] == ADMISSION
    assert commands == ["EVALSHA"]


def test_a_failure_costs_a_round_trip_more(alice: Caller, client: redis.Redis) -> None:
    with Exchanges(client) as commands, scripted(broken):
        assert alice.post("/required/", key=new_key()).status_code == 500
    assert commands == ["EVALSHA", "EVALSHA"]


def test_what_redis_has_forgotten_costs_one_look_up_once(alice: Caller, client: redis.Redis) -> None:
    key = new_key()
    with scripted(created):
        cost(alice, client, "/required/", key)
        client.flushdb()
        _, first = cost(alice, client, "/required/", key)
        again = cost(alice, client, "/required/", key)
    assert first == ["EVALSHA", "SET"]
    assert again == (ADMISSION, ["EVALSHA"])

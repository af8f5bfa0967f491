"""A seeded database and servers on it, for all tests of the demo."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest
from django.db import connection

from demo_project.serving import Server, free_port, serving, serving_bank
from tests.demo.commands import environment, manage


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of the kind that the tests run on."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('demo') / 'demo.sqlite3'}"
        return
    import psycopg

    name, server = f"demo_{secrets.token_hex(6)}", os.environ["DATABASE_URL"]
    with psycopg.connect(server, autocommit=True) as control:
        control.execute(f"CREATE DATABASE {name}")
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        control.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def seeded_url(database_url: str) -> str:
    """The database with its users."""
    seeded = manage("demo_seed", env=environment(database_url))
    assert seeded.returncode == 0, seeded.stderr
    return database_url


@pytest.fixture(scope="session")
def rows(seeded_url: str) -> Callable[[str, str], list[str]]:
    """What a connection of another process sees: the ids of a user's charges (``demo_charge``) or payouts."""

    def ids(table: str, user_id: str) -> list[str]:
        with closing(_connect(seeded_url)) as connection:
            columns = {"demo_banktransaction": "account", "idempotency_outboxevent": "business_key"}
            column = columns.get(table, "user_id")
            found = connection.execute(f"SELECT id FROM {table} WHERE {column} = '{user_id}'")
            return [row[0] for row in found.fetchall()]

    return ids


def _connect(url: str):
    if url.startswith("sqlite:"):
        return sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)
    import psycopg

    return psycopg.connect(url, autocommit=True)


@pytest.fixture
def user_id() -> str:
    """A user whom no other test has."""
    return secrets.token_hex(8)


@pytest.fixture(scope="session")
def bank_url() -> Iterator[str]:
    """A bank in a process of its own."""
    with serving_bank() as url:
        yield url


@pytest.fixture(scope="session")
def server(seeded_url: str, bank_url: str) -> Iterator[Server]:
    """A server that obeys X-Demo-Fault, with leases that a test can wait for."""
    variables = {"DEMO_FAULTS": "1", "DEMO_BANK_URL": bank_url, "DEMO_LEASE_SECONDS": "1"}
    yield from _serve(environment(seeded_url, **variables))


@pytest.fixture(scope="session")
def server_without_faults(seeded_url: str, bank_url: str) -> Iterator[Server]:
    """A server that does not."""
    yield from _serve(environment(seeded_url, DEMO_FAULTS="0", DEMO_BANK_URL=bank_url))


def _serve(variables: dict[str, str]) -> Iterator[Server]:
    with serving(free_port(), variables) as server:
        yield server


@pytest.fixture
def anonymous(server: Server) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def alice(server: Server) -> Iterator[httpx.Client]:
    """A client with Alice's token."""
    headers = {"Authorization": "Token alice-demo-token"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def bank(bank_url: str) -> Iterator[httpx.Client]:
    """A client of the bank."""
    with httpx.Client(base_url=bank_url, trust_env=False, timeout=30) as client:
        yield client

"""A seeded database and servers on it, for all tests of the demo."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from django.db import connection

from demo_project.serving import Server, free_port, serving
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
def server(seeded_url: str) -> Iterator[Server]:
    """A server that obeys X-Demo-Fault."""
    yield from _serve(environment(seeded_url, DEMO_FAULTS="1"))


@pytest.fixture(scope="session")
def server_without_faults(seeded_url: str) -> Iterator[Server]:
    """A server that does not."""
    yield from _serve(environment(seeded_url, DEMO_FAULTS="0"))


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

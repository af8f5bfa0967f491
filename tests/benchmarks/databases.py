"""The databases of a benchmark: made on one server, dropped at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql


class Databases:
    """Empty copies of the schema, and copies of copies. ``token`` is that of the user in each of them."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._prefix = f"idempotency_benchmark_{uuid.uuid4().hex[:8]}"
        self._names: list[str] = []
        self._server = psycopg.connect(server_url, autocommit=True)
        self._schema = self._create(template=None)
        self.token = self._prepare()

    def _prepare(self) -> str:
        command = [sys.executable, "-m", "tests.benchmarks.schema"]
        environment = {**os.environ, "DATABASE_URL": self._url(self._schema)}
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def new(self) -> str:
        """Return the URL of a database with the schema and one record."""
        return self._url(self._create(template=self._schema))

    def copy(self, url: str) -> str:
        """Return the URL of a copy, file by file; nobody may be connected to the original."""
        return self._url(self._create(template=urlsplit(url).path[1:]))

    def drop(self, url: str) -> None:
        """Drop a database before the end, and whoever is connected to it."""
        self._drop(urlsplit(url).path[1:])

    def checkpoint(self) -> None:
        """Write out what earlier work has left to be written, so that it is not paid for while measuring."""
        self._server.execute("CHECKPOINT")

    @property
    def version(self) -> str:
        """The version of the server."""
        return str(self._server.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]

    def close(self) -> None:
        """Drop all databases."""
        for name in reversed(self._names[:]):
            self._drop(name)
        self._server.close()

    def _url(self, name: str) -> str:
        return urlsplit(self._server_url)._replace(path=f"/{name}").geturl()

    def _create(self, *, template: str | None) -> str:
        name = f"{self._prefix}_{len(self._names)}_{uuid.uuid4().hex[:4]}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template:
            statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template))
        self._server.execute(statement)
        self._names.append(name)
        return name

    def _drop(self, name: str) -> None:
        self._server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._names.remove(name)


@contextmanager
def databases(server_url: str) -> Iterator[Databases]:
    """Make databases on a server and drop them in the end."""
    made = Databases(server_url)
    try:
        yield made
    finally:
        made.close()

"""What a key costs, in statements."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.callers import Caller, new_key
from tests.campaigns.sessions import atomic_requests, sessions_kept

URLS = "tests.conformance.urls_databases"
STORES = "tests.conformance.views_databases"
DAY = timedelta(days=1)
pytestmark = pytest.mark.urls(URLS)


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
    queries = [text.split('"')[1] for *_, text in messages]
    return ["INSERT" if query.startswith("SELECT idempotency_complete_") else query.split()[0] for query in queries]


def sent_to_functions(alice: Caller, path: str, key: str | None = None) -> list[str]:
    """Return the same where the functions of the store are called."""
    with sessions_kept():
        return sent(alice, path, key)


TRACED = pytest.mark.skipif(sys.platform != "linux", reason="libpq traces to a file on Linux alone")


@pytest.mark.postgresql
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    "measured",
    [
        pytest.param(statements, id="as Django counts"),
        pytest.param(sent, id="on the wire", marks=TRACED),
        pytest.param(sent_to_functions, id="on the wire, to functions", marks=TRACED),
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
    on_the_wire = measured is not statements
    # BEGIN and the look-up travel together, and so do the last INSERT, of record or audit event, and COMMIT.
    begin, commit = (["BEGIN;"], []) if on_the_wire else (["BEGIN", "SELECT"], ["COMMIT"])
    assert fresh == [*authentication, *begin, "INSERT", "INSERT", *commit]
    assert replay == [*authentication, *begin, "INSERT", *commit]
    assert len(fresh) == len(plain) + (0 if on_the_wire else 2)


@pytest.mark.postgresql
@pytest.mark.urls("tests.conformance.urls_plain")
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(("bare", "path"), [("/bare/", "/decorated/"), ("/class/", "/attribute/")])
def test_statement_counts_are_those_of_plain_views_too(
    alice: Caller, atomic: bool, bare: str, path: str, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django_idempotency.http.middleware.IdempotencyMiddleware"]
    key = new_key()
    alice.client.force_login(alice.user)
    with atomic_requests(True):
        plain = statements(alice, bare)
    with atomic_requests(atomic):
        fresh, replay = statements(alice, path, key), statements(alice, path, key)
    session_and_user = ["SELECT", "SELECT"]
    authentication = session_and_user if bare == "/bare/" else []
    assert plain == ["BEGIN", *authentication, "INSERT", "COMMIT"]
    assert fresh == [*session_and_user, "BEGIN", "SELECT", "INSERT", "INSERT", "COMMIT"]
    assert replay == [*session_and_user, "BEGIN", "SELECT", "INSERT", "COMMIT"]
    assert len(fresh) == len(plain) + len(session_and_user) - len(authentication) + 2

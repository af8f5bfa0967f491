"""A store that cannot be reached answers 503 and never lets a write through unprotected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.models import Payment

STORES = {
    "default": {
        "BACKEND": "django_idempotency.stores.database.DatabaseStore",
        "OPTIONS": {"using": "unreachable"},
    }
}


@pytest.fixture
def _unreachable(transactional_db: None, tmp_path: Any) -> Iterator[None]:
    """A database alias that nobody answers on."""
    configured = {**connections.settings["default"]}
    if connections["default"].vendor == "sqlite":
        configured |= {"NAME": str(tmp_path / "missing" / "database.sqlite3"), "OPTIONS": {}}
    else:
        configured |= {"HOST": "127.0.0.1", "PORT": "1", "OPTIONS": {"connect_timeout": 2}}
    connections.settings["unreachable"] = configured
    connection = connections["unreachable"]

    def connect() -> None:
        with connection.wrap_database_errors:
            connection.connect()

    # The test framework forbids connections to further databases; this one tries for real, and fails for real.
    connection.ensure_connection = connect  # type: ignore[method-assign]
    with override_settings(IDEMPOTENCY_STORES=STORES):
        yield
    connections["unreachable"].close()
    del connections["unreachable"]
    del connections.settings["unreachable"]


@pytest.mark.usefixtures("_unreachable")
def test_an_outage_of_the_store_is_a_503_and_nothing_runs(alice: Caller) -> None:
    response = alice.post("/payments/", {"amount": 3}, key=new_key())
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
    problem = json.loads(response.content)
    assert problem["code"] == "store-unavailable"
    assert problem["retryable"] is True
    assert Payment.objects.count() == 0


def test_a_key_that_met_an_outage_runs_afterwards(alice: Caller, request: pytest.FixtureRequest) -> None:
    key = new_key()
    request.getfixturevalue("_unreachable")
    assert alice.post("/payments/", {"amount": 3}, key=key).status_code == 503
    with override_settings(IDEMPOTENCY_STORES={"default": {"BACKEND": STORES["default"]["BACKEND"]}}):
        first = alice.post("/payments/", {"amount": 3}, key=key)
        again = alice.post("/payments/", {"amount": 3}, key=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again["Idempotent-Replayed"] == "true"
    assert (Payment.objects.count(), Record.objects.count()) == (1, 1)

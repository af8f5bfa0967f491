"""Charges made by an asynchronous view: the row is committed with the step that knows of it, the outcome after it."""

from __future__ import annotations

import pytest

from demo_project.serving import free_port, serving
from tests.demo.charges import ChargeContract, key
from tests.demo.commands import environment


@pytest.fixture(scope="module")
def asgi_server(seeded_url, bank_url):
    """The demo behind uvicorn."""
    variables = {"DEMO_FAULTS": "1", "DEMO_BANK_URL": bank_url, "DEMO_LEASE_SECONDS": "1"}
    with serving(free_port(), environment(seeded_url, **variables), asgi=True) as server:
        yield server


class TestAsyncCharges(ChargeContract):
    path = "/api/async/charges/"

    @pytest.mark.parametrize(("fault", "status"), [("raise", 500), ("status:500", 500), ("status:503", 503)])
    def test_a_failure_after_the_commit_is_not_kept_but_the_row_is(self, alice, rows, user_id, fault, status):
        used = key()
        assert self.post(alice, user_id, used, fault=fault).status_code == status
        (written,) = rows("demo_charge", user_id)
        retry = self.post(alice, user_id, used)
        assert (retry.status_code, retry.json()["id"]) == (201, written)
        assert "Idempotent-Replayed" not in retry.headers
        assert rows("demo_charge", user_id) == [written]


class TestAsyncChargesByAsgi(TestAsyncCharges):
    """The same behind uvicorn, where a client that hangs up cancels its request."""

    @pytest.fixture
    def server(self, asgi_server):
        return asgi_server

"""Charges made by a plain view of Django: the row and the record of it are there together or not at all."""

from __future__ import annotations

import pytest

from tests.demo.charges import ChargeContract, key


class TestPlainCharges(ChargeContract):
    path = "/api/plain/charges/"

    def test_an_exception_rolls_the_row_back(self, alice, rows, user_id):
        used = key()
        assert self.post(alice, user_id, used, fault="raise").status_code == 500
        assert rows("demo_charge", user_id) == rows("idempotency_outboxevent", user_id) == []
        retry = self.post(alice, user_id, used)
        assert (retry.status_code, rows("demo_charge", user_id)) == (201, [retry.json()["id"]])

    @pytest.mark.parametrize(("status", "written"), [(500, 0), (503, 0), (202, 1), (204, 1), (409, 1)])
    def test_a_status_is_returned_and_judged_by_the_policy(self, alice, rows, user_id, status, written):
        assert self.post(alice, user_id, key(), fault=f"status:{status}").status_code == status
        assert len(rows("demo_charge", user_id)) == written

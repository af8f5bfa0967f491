"""Rows that are written by other means do not pass for unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import F

from tests.writes.models import Price

pytestmark = pytest.mark.django_db(transaction=True)


def upsert(amount: str) -> str:
    outcome: str = Price.objects.upsert_one({"tenant": "t", "sku": 1, "amount": amount})[1]
    return outcome


def set_amount(way: str) -> None:
    row = Price.objects.get()
    row.amount = 9
    if way == "save":
        row.save()
    elif way == "save, one field":
        row.save(update_fields=["amount"])
    elif way == "bulk_update":
        Price.objects.bulk_update([row], ["amount"])
    elif way == "update":
        Price.objects.update(amount=9)
    else:
        row.amount = F("amount") + 8
        row.save()


@pytest.mark.parametrize("way", ["save", "save, one field", "bulk_update", "update", "expression"])
def test_a_row_that_was_changed_by_hand_is_put_right(way: str) -> None:
    upsert("1.00")
    set_amount(way)
    assert upsert("1.00") == "updated"
    assert str(Price.objects.get().amount) == "1.00"


def test_what_was_saved_is_known_to_be_the_same() -> None:
    Price.objects.create(tenant="t", sku=1, amount="1.0")
    assert upsert("1.00") == "unchanged"


def test_what_is_not_payload_may_be_saved_and_updated() -> None:
    upsert("1.00")
    Price.objects.update(created_at="2025-01-01T00:00:00Z")
    row: Any = Price.objects.get()
    row.save(update_fields=["created_at"])
    assert upsert("1.00") == "unchanged"

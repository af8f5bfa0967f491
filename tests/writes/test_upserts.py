"""Rows are inserted, updated or left alone, and the result tells which."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, models

from django_idempotency.signals import batch_answered
from django_idempotency.writes import aupsert, upsert
from tests.writes.models import Fact, Named, Numbered, Price

pytestmark = pytest.mark.django_db(transaction=True)


def price(sku: int, amount: str = "1.00", **fields: Any) -> Price:
    return Price(tenant="t", sku=sku, amount=amount, **fields)


def outcomes(result: Any) -> dict[str, int]:
    return {name: count for name, count in result.counts.items() if count}


def test_new_rows_are_inserted_and_get_their_keys() -> None:
    result = Price.objects.upsert([price(2), price(1)])
    assert outcomes(result) == {"inserted": 2}
    assert [(row.sku, row.pk, row.revision) for row in result.inserted] == [
        (row.sku, row.pk, 1) for row in Price.objects.order_by("sku")
    ]
    assert not result.inserted[0]._state.adding


def test_the_same_rows_again_are_unchanged_and_nothing_is_written() -> None:
    Price.objects.upsert([price(1), price(2)])
    before = list(Price.objects.order_by("sku").values())
    result = Price.objects.upsert([price(1), price(2)])
    assert outcomes(result) == {"unchanged": 2}
    assert list(Price.objects.order_by("sku").values()) == before
    assert [(row.pk, row.revision) for row in result.unchanged] == [(row["id"], 1) for row in before]


def test_rows_that_differ_are_updated_with_their_clocks_and_the_next_revision() -> None:
    Price.objects.upsert([price(1), price(2)])
    before = Price.objects.get(sku=1)
    result = Price.objects.upsert([price(1, "2.00"), price(2), price(3)])
    assert outcomes(result) == {"inserted": 1, "updated": 1, "unchanged": 1}
    after = Price.objects.get(sku=1)
    assert result.updated[0].pk == after.pk == before.pk
    assert (str(after.amount), after.revision, result.updated[0].revision) == ("2.00", 2, 2)
    assert after.created_at == before.created_at
    assert after.updated_at > before.updated_at


def test_a_row_whose_hash_is_null_is_updated_once() -> None:
    Price.objects.bulk_create([price(1)])
    assert Price.objects.get().payload_hash is None
    assert outcomes(Price.objects.upsert([price(1)])) == {"updated": 1}
    assert outcomes(Price.objects.upsert([price(1)])) == {"unchanged": 1}


def test_mappings_are_rows_too() -> None:
    [row] = upsert(Fact, [{"biz_key": "a", "amount": 1}], key="biz_key").inserted
    assert row.pk == Fact.objects.get(biz_key="a", amount=1).pk


def test_any_model_is_upserted_by_its_columns_and_null_is_a_value() -> None:
    def write(amount: int | None) -> dict[str, int]:
        return outcomes(upsert(Fact, [{"biz_key": "a", "amount": amount}], key=("biz_key",), payload=("amount",)))

    assert [write(amount) for amount in (None, None, 1, 1, None)] == [
        {"inserted": 1},
        {"unchanged": 1},
        {"updated": 1},
        {"unchanged": 1},
        {"updated": 1},
    ]
    assert Fact.objects.get().amount is None


def test_without_a_revision_all_four_are_told_in_one_call() -> None:
    made = upsert(Fact, [Fact(biz_key=name, amount=1) for name in "abc"], key="biz_key")
    result = upsert(
        Fact, [Fact(biz_key=name, amount=n) for name, n in zip("dcba", [1, 2, 1, 1], strict=True)], key="biz_key"
    )
    assert {name: [row.biz_key for row in result.of(name)] for name in ("inserted", "updated", "unchanged")} == {  # type: ignore[arg-type]
        "inserted": ["d"],
        "updated": ["c"],
        "unchanged": ["a", "b"],
    }
    assert [row.pk for row in (*result.unchanged, *result.updated)] == [row.pk for row in made.inserted]


def test_what_is_not_payload_is_not_updated() -> None:
    upsert(Fact, [Fact(biz_key="a", amount=1, note="first")], key="biz_key", payload="amount")
    upsert(Fact, [Fact(biz_key="a", amount=2, note="second")], key="biz_key", payload="amount")
    assert Fact.objects.get(amount=2).note == "first"


def test_a_key_that_is_the_primary_key() -> None:
    rows = [Numbered(number=7, text="a")]
    assert outcomes(upsert(Numbered, rows, key="number", payload="text")) == {"inserted": 1}
    assert outcomes(upsert(Numbered, rows, key="number", payload="text")) == {"unchanged": 1}
    rows = [Numbered(number=7, text="b")]
    assert outcomes(upsert(Numbered, rows, key="pk", payload="text")) == {"updated": 1}


def test_a_revision_of_ones_own_counts_also_where_it_began_with_zero() -> None:
    Numbered.objects.create(number=1, text="old", edition=0)
    result = upsert(Numbered, [Numbered(number=1, text="new")], key="number", payload="text", revision="edition")
    assert outcomes(result) == {"updated": 1}
    assert result.updated[0].edition == Numbered.objects.get().edition == 2


def test_the_primary_key_of_a_row_stays_where_rows_bring_their_own() -> None:
    made = upsert(Named, [Named(code="a")], key="code").inserted[0]
    result = upsert(Named, [Named(code="a", day=dt.date(2025, 1, 1))], key="code")
    assert result.updated[0].pk == made.pk == Named.objects.get(day__isnull=False).pk


def test_expressions_are_left_to_the_database() -> None:
    rows = [Fact(biz_key="a", amount=models.Value(2) + models.Value(3))]
    assert outcomes(upsert(Fact, rows, key="biz_key", payload="amount")) == {"inserted": 1}
    assert outcomes(upsert(Fact, rows, key="biz_key", payload="amount")) == {"unchanged": 1}
    assert Fact.objects.get().amount == 5
    with pytest.raises(TypeError, match="guard='columns'"):
        Price.objects.upsert([Price(tenant="t", sku=1, amount=models.Value(1))])


def test_duplicates_among_the_rows_are_refused_or_one_of_them_counts() -> None:
    rows = [price(1, "1.00"), price(1, "2.00"), price(1, "3.00")]
    with pytest.raises(ValueError, match="more than one row with the key sku=1, tenant='t'"):
        Price.objects.upsert(rows)
    assert not Price.objects.exists()
    assert outcomes(Price.objects.upsert(rows, on_duplicate="first")) == {"inserted": 1}
    assert str(Price.objects.get().amount) == "1.00"
    assert outcomes(Price.objects.upsert(rows, on_duplicate="last")) == {"updated": 1}
    assert str(Price.objects.get().amount) == "3.00"
    with pytest.raises(ValueError, match="on_duplicate"):
        Price.objects.upsert(rows, on_duplicate="any")


def test_a_key_that_is_null_is_refused() -> None:
    with pytest.raises(ValueError, match="NULL"):
        upsert(Price, [Price(tenant="t", amount=1)])


def test_batches_are_one_transaction() -> None:
    rows = [price(number) for number in range(10)]
    rows[-1].amount = "99999999999.99"  # too long for the column
    if connection.vendor == "sqlite":
        rows[-1].sku = "nine"  # type: ignore[assignment]
    with pytest.raises(Exception):  # noqa: B017, PT011
        Price.objects.upsert(rows, batch_size=3)
    assert not Price.objects.exists()
    assert outcomes(Price.objects.upsert(rows[:9], batch_size=2)) == {"inserted": 9}


def test_no_rows_are_answered_too() -> None:
    assert outcomes(Price.objects.upsert([])) == {}


def test_one_row() -> None:
    row, outcome = Price.objects.upsert_one(price(1))
    assert (row.pk, outcome) == (Price.objects.get().pk, "inserted")
    assert Price.objects.upsert_one(price(1))[1] == "unchanged"


def test_asynchronous_twins() -> None:
    async def write() -> tuple[Any, Any]:
        first = await Price.objects.aupsert([price(1)])
        return first, await aupsert(Price, [price(1), price(1)], on_duplicate="last")

    first, second = async_to_sync(write)()
    assert (outcomes(first), outcomes(second)) == ({"inserted": 1}, {"unchanged": 1})


def test_the_fact_is_told_once_within_the_transaction() -> None:
    told = []

    def listen(**facts: Any) -> None:
        told.append({**facts, "in_transaction": connection.in_atomic_block})

    batch_answered.connect(listen)
    try:
        Price.objects.upsert([price(number) for number in range(5)], batch_size=2)
    finally:
        batch_answered.disconnect(listen)
    [fact] = told
    assert fact["counts"] == {"inserted": 5, "updated": 0, "unchanged": 0, "stale": 0}
    assert (fact["sender"], fact["using"], fact["layer"]) == (Price, "default", "writes")
    assert (fact["operation"], fact["in_transaction"]) == ("tests.Price", True)
    assert 0 < fact["duration"] < 60


def test_a_listener_that_raises_undoes_it() -> None:
    def refuse(**facts: Any) -> None:
        raise PermissionError

    batch_answered.connect(refuse)
    try:
        with pytest.raises(PermissionError):
            Price.objects.upsert([price(1)])
    finally:
        batch_answered.disconnect(refuse)
    assert not Price.objects.exists()


@pytest.mark.parametrize(("operator", "expected"), [("<>", False), ("IS DISTINCT FROM", True)])
def test_only_one_comparison_takes_null_for_a_value(operator: str, expected: bool) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT NULL {operator} 'new'")
        assert bool(cursor.fetchone()[0]) is expected

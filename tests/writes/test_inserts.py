"""Rows are made once by their key, and never changed."""

from __future__ import annotations

from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from django_idempotency.signals import batch_answered
from django_idempotency.writes import get_or_insert
from tests.campaigns.sessions import PATIENCE, other_sessions
from tests.writes.models import Fact, Numbered

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_conflict_returns_the_row_that_is_there_untouched() -> None:
    first = get_or_insert(Fact, [Fact(biz_key="a", amount=1)], key="biz_key")
    assert [(row.pk, row.amount) for row in first.inserted] == list(Fact.objects.values_list("pk", "amount"))
    second = get_or_insert(Fact, [{"biz_key": "a", "amount": 2}, {"biz_key": "b", "amount": 3}], key=["biz_key"])
    assert second.counts == {"inserted": 1, "updated": 0, "unchanged": 1, "stale": 0}
    assert (second.unchanged[0].pk, second.unchanged[0].amount) == (first.inserted[0].pk, 1)
    assert list(Fact.objects.order_by("biz_key").values_list("amount", flat=True)) == [1, 3]


def test_violations_of_other_constraints_are_errors() -> None:
    with pytest.raises(Exception, match=r"(?i)null"):
        get_or_insert(Numbered, [Numbered(number=1, text=None)], key="number")
    assert not Numbered.objects.exists()


def test_of_many_at_once_one_inserts_and_all_get_its_row() -> None:
    together = Barrier(8)

    def ask(number: int) -> Any:
        together.wait(PATIENCE)
        return get_or_insert(Fact, [Fact(biz_key="a", amount=number)], key="biz_key")

    with other_sessions() as start:
        results = [future.result(PATIENCE) for future in [start(ask, number) for number in range(8)]]
    assert sum(result.counts["inserted"] for result in results) == 1
    assert {(row.pk, row.amount) for result in results for row in result.inserted + result.unchanged} == {
        Fact.objects.values_list("pk", "amount").get()
    }


def test_a_key_must_be_unique_and_known() -> None:
    with pytest.raises(ValueError, match="no unique constraint on exactly note"):
        get_or_insert(Fact, [], key="note")
    with pytest.raises(ValueError, match="Did you mean biz_key"):
        get_or_insert(Fact, [], key="biz_kye")


@pytest.mark.postgresql
def test_rows_that_are_kept_away_are_an_error_and_not_an_endless_loop() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        cursor.execute("CREATE TRIGGER away BEFORE INSERT ON tests_fact FOR EACH ROW EXECUTE FUNCTION away()")
    try:
        with pytest.raises(RuntimeError, match="1 of the rows"):
            get_or_insert(Fact, [Fact(biz_key="a")], key="biz_key")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION away CASCADE")


def test_the_fact_is_told() -> None:
    told: list[Any] = []

    def listen(**facts: Any) -> None:
        told.append((facts["operation"], facts["counts"]["inserted"]))

    batch_answered.connect(listen)
    try:
        get_or_insert(Fact, [Fact(biz_key="a")], key="biz_key")
    finally:
        batch_answered.disconnect(listen)
    assert told == [("tests.Fact", 1)]

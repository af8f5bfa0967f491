"""Sources are read in order, from where they were left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.utils import timezone

from django_idempotency.reprocessing import IterableSource, QuerySetSource, Rollout, VersionedProjection
from tests.reprocessing.models import Entry, Total
from tests.reprocessing.projections import Recounting, add, enter, expected, found
from tests.reprocessing.test_rollouts import WHO


def read(source: Any, after: Any = None, **options: Any) -> list[Any]:
    chosen = {"size": 3, "is_first": True, "is_last": False, **options}
    return [row for batch in source.batches(after, **chosen) for row in batch.rows]


def test_rows_with_the_same_first_value_are_read_once_each() -> None:
    at = timezone.now()
    for number in range(10):
        Entry.objects.create(account="a", amount=number, at=at + timedelta(seconds=number // 4))
    source = QuerySetSource(Entry.objects.all(), by=("at", "id"))
    amounts = [row.amount for row in read(source)]
    assert amounts == list(range(10))
    middle = Entry.objects.get(amount=5)
    assert [row.amount for row in read(source, (middle.at, middle.pk))] == [6, 7, 8, 9]
    assert [row.amount for row in read(source, (middle.at,))] == list(range(4, 10))


def test_a_lag_is_read_again_at_the_beginning_of_a_catch_up_alone() -> None:
    at = timezone.now()
    rows = [Entry.objects.create(account="a", amount=n, at=at + timedelta(minutes=n)) for n in range(6)]
    source = QuerySetSource(Entry.objects.all(), by=("at", "id"), lag=timedelta(minutes=2))
    after = (rows[4].at, rows[4].pk)
    assert [row.amount for row in read(source, after)] == [2, 3, 4, 5]
    assert [row.amount for row in read(source, after, is_first=False)] == [5]


def test_what_appears_late_is_counted_within_the_lag() -> None:
    enter(10)
    rollout = Rollout(Recounting(version=1))
    rollout.build()
    Entry.objects.create(account="late", amount=9, at=timezone.now() - timedelta(minutes=2))
    rollout.promote(WHO)
    assert found() == expected()
    assert found()["late"] == (9, 1)


class Lines(VersionedProjection, register=False):
    """Built from an iterable, which counts how often it is opened."""

    model = Total
    batch_size = 4
    opened: list[Any] = []

    @staticmethod
    def lines(after: Any) -> Any:
        Lines.opened.append(after)
        return ((number, f"a{number % 2}") for number in range(after + 1 if after is not None else 0, 10))

    source = IterableSource(lines)

    def apply(self, into: Any, rows: Any) -> None:
        for account in rows:
            add(into, account, 1)


def test_a_projection_is_built_from_an_iterable_and_opens_it_once_a_build() -> None:
    Lines.opened.clear()
    rollout = Rollout(Lines(version=1))
    assert rollout.build() == 10
    assert Lines.opened == [None]
    rollout.promote(WHO)
    assert set(Lines.opened[1:]) == {9}
    assert found() == {"a0": (5, 5), "a1": (5, 5)}


@pytest.mark.parametrize(("by", "error"), [(("nothing",), FieldDoesNotExist), (("pk", "nothing"), FieldDoesNotExist)])
def test_a_field_that_is_not_there_is_an_error(by: tuple[str, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        _ = QuerySetSource(Entry.objects.all(), by=by).positions


def test_the_primary_key_is_the_order_unless_said_otherwise() -> None:
    enter(5)
    assert [row.pk for row in read(QuerySetSource(Entry.objects.all()))] == sorted(
        Entry.objects.values_list("pk", flat=True)
    )

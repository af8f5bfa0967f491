"""Versions are built beside the live one, verified, promoted, rolled back and dropped."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from django_idempotency.reprocessing import Decision, Rollout, VerificationFailed
from django_idempotency.reprocessing.errors import NoSuchGeneration, WrongState
from django_idempotency.reprocessing.feeding import watermark
from django_idempotency.reprocessing.models import Generation
from django_idempotency.reprocessing.tables import kind
from django_idempotency.signals import batch_answered
from tests.campaigns.sessions import seen_from_outside
from tests.reprocessing.models import Entry
from tests.reprocessing.projections import (
    Adding,
    AddingByName,
    AtOnce,
    Recounting,
    WrittenThrough,
    add,
    enter,
    expected,
    found,
)

KINDS = [Adding, AddingByName, Recounting, AtOnce]
WHO = Decision(actor="user:ops", reason="a new recipe")


def states() -> dict[int, str]:
    return dict(Generation.objects.order_by("version").values_list("version", "state"))


def promoted(kind: Any, version: int = 1) -> Rollout:
    rollout = Rollout(kind(version=version))
    rollout.build()
    rollout.promote(WHO)
    return rollout


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_is_built_promoted_and_read_by_others(kind: Any) -> None:
    enter(40)
    promoted(kind)
    assert seen_from_outside(lambda: found(kind.model)) == expected()
    assert states() == {1: "live"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_live_version_is_untouched_until_the_promotion(kind: Any) -> None:
    enter(20)
    promoted(kind)
    before = found(kind.model)
    enter(20)
    second = Rollout(kind(version=2))
    second.build()
    assert found(kind.model) == before
    assert states() == {1: "live", 2: "built"}
    second.promote(WHO)
    assert found(kind.model) == expected()
    assert states() == {1: "retired", 2: "live"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_promotion_catches_up_with_what_was_written_since_the_build(kind: Any) -> None:
    enter(20)
    rollout = Rollout(kind(version=1))
    rollout.build()
    enter(15)
    rollout.promote(WHO)
    assert found(kind.model) == expected()


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollback_goes_back_to_the_rows_of_the_earlier_version(kind: Any, decisions: list[dict[str, Any]]) -> None:
    enter(20)
    promoted(kind)
    before = found(kind.model)
    Entry.objects.update(amount=1)
    second = promoted(kind, 2)
    assert found(kind.model) == expected() != before
    assert second.roll_back(Decision(actor="user:ops", reason="wrong sums")) == 1
    assert found(kind.model) == before
    assert states() == {1: "live", 2: "retired"}
    told = [(facts["action"], facts["scope"], facts["reason"], facts["layer"]) for facts in decisions]
    assert told == [
        ("promoted", "v1", "a new recipe", "reprocessing"),
        ("promoted", "v2", "a new recipe", "reprocessing"),
        ("rolled_back", "v1", "wrong sums", "reprocessing"),
    ]


@pytest.mark.parametrize("kind", [Adding, AddingByName])
def test_a_version_that_was_rolled_back_can_be_promoted_again_and_catches_up(kind: Any) -> None:
    enter(10)
    promoted(kind)
    second = promoted(kind, 2)
    second.roll_back(WHO)
    enter(10)
    second.promote(WHO)
    assert found(kind.model) == expected()


def test_rollbacks_go_further_back_each_time_and_then_say_that_there_is_nothing() -> None:
    for version in (1, 2, 3):
        rollout = promoted(Adding, version)
    assert [rollout.roll_back(WHO), rollout.roll_back(WHO)] == [2, 1]
    with pytest.raises(NoSuchGeneration, match="no retired version"):
        rollout.roll_back(WHO)
    assert rollout.roll_back(WHO, to=3) == 3


def test_promoting_what_is_live_changes_nothing(decisions: list[dict[str, Any]]) -> None:
    promoted(Adding).promote(WHO)
    assert len(decisions) == 1


@pytest.mark.parametrize("kind", [Adding, AddingByName, Recounting])
def test_the_live_version_is_caught_up_with_by_command(kind: Any) -> None:
    rollout = promoted(kind)
    enter(20)
    assert rollout.catch_up() == 20
    assert found(kind.model) == expected()


def test_a_version_that_is_not_verified_is_not_promoted() -> None:
    class Strict(Adding, register=False):
        def verify(self, old: Any, new: Any) -> None:
            assert old is None or old.objects.count() == new.objects.count(), "other accounts"

    enter(20)
    promoted(Strict)
    enter(1, accounts=1)
    Entry.objects.create(account="new", amount=1)
    second = Rollout(Strict(version=2))
    second.build()
    with pytest.raises(VerificationFailed, match="other accounts"):
        second.promote(WHO)
    assert states() == {1: "live", 2: "built"}


def test_a_version_without_rows_does_not_take_the_place_of_one_that_has_some() -> None:
    enter(5)
    promoted(Adding)
    Entry.objects.all().delete()
    second = Rollout(Adding(version=2))
    second.build()
    with pytest.raises(VerificationFailed, match="has no rows"):
        second.promote(WHO)


def test_what_is_not_built_to_its_end_is_neither_verified_nor_promoted() -> None:
    enter(20)
    rollout = Rollout(Adding(version=1))
    rollout._begin()
    for verb in (rollout.verify, rollout.promote, rollout.catch_up):
        with pytest.raises(WrongState, match="run the build again"):
            verb()


def test_an_exception_of_apply_keeps_the_batches_before_it_and_the_build_goes_on_behind_them() -> None:
    class Failing(Adding, register=False):
        fails = True
        read: list[int] = []

        def apply(self, into: Any, rows: Any) -> None:
            if self.fails and len(self.read) >= 14:
                raise RuntimeError("full")
            super().apply(into, rows)
            self.read.extend(row.pk for row in rows)

    enter(30)
    rollout = Rollout(Failing(version=1))
    with pytest.raises(RuntimeError, match="full"):
        rollout.build()
    assert states() == {1: "building"}
    Failing.fails = False
    assert rollout.build() == 16
    assert len(set(Failing.read)) == len(Failing.read) == 30
    rollout.promote(WHO)
    assert found() == expected()


def test_dropping_leaves_the_live_version_and_the_newest_retired_ones(decisions: list[dict[str, Any]]) -> None:
    for version in (1, 2, 3, 4):
        rollout = promoted(Adding, version)
    assert rollout.drop(WHO) == [2, 1]
    assert states() == {1: "dropped", 2: "dropped", 3: "retired", 4: "live"}
    tables = Generation.objects.order_by("version").values_list("table", flat=True)
    assert [kind("default", table) for table in tables] == ["", "", "t", "t"]
    assert [facts["action"] for facts in decisions][4:] == ["dropped", "dropped"]
    with pytest.raises(WrongState, match="is live"):
        rollout.drop(WHO, version=4)


def test_a_dropped_version_can_be_built_anew_from_the_start() -> None:
    enter(20)
    promoted(Adding, 1)
    rollout = Rollout(Adding(version=2))
    rollout.build()
    rollout.drop(WHO, version=2)
    with pytest.raises(NoSuchGeneration, match="build it first"):
        rollout.promote(WHO)
    assert rollout.build() == 20
    rollout.promote(WHO)
    assert found() == expected()


@pytest.mark.parametrize("kind", [Adding, AddingByName])
def test_a_listener_that_raises_undoes_the_promotion(kind: Any) -> None:
    from django_idempotency.signals import decision_made

    enter(20)
    promoted(kind)
    before = found(kind.model)
    Entry.objects.update(amount=1)
    second = Rollout(kind(version=2))
    second.build()

    def refuse(**facts: Any) -> None:
        raise LookupError("no audit, no promotion")

    decision_made.connect(refuse)
    try:
        with pytest.raises(LookupError):
            second.promote(WHO)
    finally:
        decision_made.disconnect(refuse)
    assert states() == {1: "live", 2: "built"}
    assert seen_from_outside(lambda: found(kind.model)) == before


def test_builds_tell_how_many_rows_they_read() -> None:
    told: list[Any] = []

    def listen(counts: dict[str, int], operation: str, **facts: Any) -> None:
        told.append((operation, counts))

    batch_answered.connect(listen)
    try:
        enter(20)
        seen: list[int] = []
        Rollout(Adding(version=1)).build(seen.append)
    finally:
        batch_answered.disconnect(listen)
    assert told == [("totals", {"executed": 20})]
    assert seen == [7, 14, 20]
    assert Generation.objects.get().rows_read == 20


def test_the_table_that_had_the_name_before_counts_as_version_0() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(AddingByName.model)
    add(AddingByName.model, "old", 5)
    enter(10)
    rollout = promoted(AddingByName)
    assert states() == {0: "retired", 1: "live"}
    assert found(AddingByName.model) == expected()
    rollout.roll_back(WHO)
    assert found(AddingByName.model) == {"old": (5, 1)}


@pytest.mark.postgresql
def test_what_was_written_through_is_not_counted_twice_by_a_second_promotion() -> None:
    enter(10)
    promoted(WrittenThrough)
    second = promoted(WrittenThrough, 2)
    second.roll_back(WHO)
    with pytest.raises(WrongState, match="build another version"):
        second.promote(WHO)
    with pytest.raises(WrongState, match="keeps it up to date"):
        Rollout(WrittenThrough(version=1)).catch_up()


def test_status_tells_where_each_version_stands() -> None:
    enter(10)
    rollout = promoted(Adding)
    Rollout(Adding(version=2)).build()
    first, second = rollout.status()
    assert (first["state"], second["state"]) == ("live", "built")
    last = Entry.objects.order_by("id").last()
    assert last
    assert first["position"] == second["position"] == [str(last.pk)]
    assert watermark(Adding(version=1)).position == (last.pk,)


def test_a_table_of_somebody_else_is_left_alone() -> None:
    Rollout(Adding(version=1)).build()
    with pytest.raises(WrongState, match="not of this projection"):
        Rollout(Recounting(version=1)).build()


def test_a_batch_and_its_progress_are_seen_by_others_from_the_same_commit_on() -> None:
    class Watched(Adding, register=False):
        seen: list[Any] = []

        def apply(self, into: Any, rows: Any) -> None:
            super().apply(into, rows)
            position = (rows[-1].pk,)
            transaction.on_commit(
                lambda: self.seen.append(seen_from_outside(lambda: watermark(self).position) == position)
            )

    enter(20)
    Rollout(Watched(version=1)).build()
    assert Watched.seen == [True, True, True]

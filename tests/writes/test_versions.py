"""With a version, what comes too late is stale."""

from __future__ import annotations

import pytest

from tests.writes.models import Position

pytestmark = pytest.mark.django_db(transaction=True)


def write(port: str, seen: int) -> str:
    position, outcome = Position.objects.upsert_one(Position(ship="a", port=port, seen=seen))
    assert position.revision == Position.objects.get().revision
    return outcome


def state() -> tuple[str, int]:
    return Position.objects.values_list("port", "seen").get()


def test_only_a_newer_version_is_written() -> None:
    steps = [("x", 5), ("x", 5), ("y", 4), ("x", 4), ("y", 5), ("y", 6)]
    assert [write(*step) for step in steps] == ["inserted", "unchanged", "stale", "unchanged", "stale", "updated"]
    assert state() == ("y", 6)


def test_a_newer_version_that_says_the_same_shuts_out_those_in_between() -> None:
    assert [write("x", 1), write("x", 3), write("y", 2)] == ["inserted", "updated", "stale"]
    assert state() == ("x", 3)


def test_the_order_of_delivery_does_not_matter() -> None:
    rows = [Position(ship="a", port=str(seen), seen=seen) for seen in (3, 1, 2)]
    for row in rows:
        Position.objects.upsert([row])
    assert state() == ("3", 3)


def test_a_row_without_a_version_is_refused() -> None:
    with pytest.raises(ValueError, match="NULL"):
        Position.objects.upsert([Position(ship="a", port="x", seen=None)])

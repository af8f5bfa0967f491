"""Notes travel with an outcome and stay out of what is replayed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_idempotency.core import notes

LOCATION = ("Location", "/payments/1/")


@pytest.fixture(autouse=True)
def _notes() -> Iterator[None]:
    notes.register("colour", lambda: "blue")
    notes.register("nothing", lambda: "")
    yield
    notes.unregister("colour")
    notes.unregister("nothing")


def test_a_note_that_is_taken_can_be_read_among_other_headers() -> None:
    assert notes.read((LOCATION, *notes.take())) == {"colour": "blue"}


def test_notes_are_not_among_the_headers_that_are_replayed() -> None:
    assert notes.without((LOCATION, *notes.take())) == (LOCATION,)


def test_a_note_is_read_after_its_writer_has_gone() -> None:
    kept = notes.take()
    notes.unregister("colour")
    assert notes.take() == ()
    assert notes.read(kept) == {"colour": "blue"}

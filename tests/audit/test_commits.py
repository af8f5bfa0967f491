"""What is told outside waits for the commit, and cannot undo it."""

from __future__ import annotations

from typing import NoReturn

import pytest
from django.db import transaction

from django_idempotency.audit.commits import after_commit, at_once, when_true
from tests.models import Payment


def fail() -> NoReturn:
    raise RuntimeError("no disk left")


@pytest.mark.django_db(transaction=True)
def test_a_failing_listener_neither_undoes_the_commit_nor_keeps_the_next_one_from_being_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []
    with transaction.atomic():
        Payment.objects.create(amount=1, reference="r")
        after_commit("default", fail)
        after_commit("default", lambda: told.append("next"))
        assert told == []
    assert told == ["next"]
    assert Payment.objects.count() == 1
    assert "no disk left" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_savepoint_that_is_rolled_back_takes_what_was_to_be_told_with_it() -> None:
    told: list[str] = []
    with transaction.atomic():
        with transaction.atomic():
            after_commit("default", lambda: told.append("inner"))
            transaction.set_rollback(True)
        after_commit("default", lambda: told.append("outer"))
    assert told == ["outer"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("outcome", ["replayed", "in_progress", "mismatch", "rejected", "failed", "unknown", "expired"])
def test_what_was_answered_was_answered_whatever_is_rolled_back(outcome: str) -> None:
    told: list[str] = []
    with transaction.atomic():
        when_true("default", outcome, lambda: told.append(outcome))
        when_true("default", "executed", lambda: told.append("executed"))
        transaction.set_rollback(True)
    assert told == [outcome]


def test_without_a_database_it_is_told_at_once_and_what_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    after_commit(None, lambda: told.append("now"))
    at_once(fail)
    assert told == ["now"]
    assert "no disk left" in caplog.text

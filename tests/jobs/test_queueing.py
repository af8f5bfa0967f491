"""A job is handed to a queue once, after the commit of the transaction that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections, transaction

from django_idempotency.exceptions import FingerprintMismatch
from django_idempotency.jobs import Enqueued, enqueue_once, run_once
from django_idempotency.jobs.models import QueuedJob
from tests.jobs import tasks
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sent() -> list[str]:
    """What has reached the queue."""
    return []


@pytest.fixture
def enqueue(sent: list[str]) -> Callable[..., Enqueued]:
    """Enqueue a payment."""

    def enqueue(reference: str, amount: int = 1, **options: timedelta) -> Enqueued:
        return enqueue_once(tasks.pay, (reference, amount), send=lambda: sent.append(reference), **options)

    return enqueue


def test_it_is_sent_after_the_commit_and_once(enqueue: Callable[..., Enqueued], sent: list[str]) -> None:
    with transaction.atomic():
        assert enqueue("a")
        assert enqueue("a").state == "queued"
        assert sent == []
    assert sent == ["a"]
    assert enqueue("a").state == "queued"
    assert sent == ["a"]


def test_the_mark_is_rolled_back_with_the_transaction(enqueue: Callable[..., Enqueued], sent: list[str]) -> None:
    with transaction.atomic():
        enqueue("a")
        transaction.set_rollback(True)
    assert (sent, QueuedJob.objects.count()) == ([], 0)
    assert enqueue("a")
    assert sent == ["a"]


def test_what_was_lost_on_the_way_is_sent_again_after_the_deadline(
    enqueue: Callable[..., Enqueued], sent: list[str]
) -> None:
    assert enqueue("a", deadline=timedelta(0))
    assert enqueue("a", deadline=timedelta(minutes=1))
    assert not enqueue("a")
    assert sent == ["a", "a"]


def test_the_mark_ends_when_a_run_begins(enqueue: Callable[..., Enqueued], sent: list[str]) -> None:
    @run_once(key="payment:{reference}", name="broken")
    def broken(reference: str) -> None:
        raise ZeroDivisionError

    for _ in range(2):
        assert enqueue_once(broken, ("a",), send=lambda: sent.append("a"))
        assert not enqueue_once(broken, ("a",), send=lambda: sent.append("a"))
        with pytest.raises(ZeroDivisionError):
            broken("a")
    assert sent == ["a", "a"]


def test_what_is_completed_is_not_sent(enqueue: Callable[..., Enqueued], sent: list[str]) -> None:
    tasks.pay("a")
    assert enqueue("a").state == "completed"
    assert sent == []


def test_the_same_key_with_other_arguments_is_refused(enqueue: Callable[..., Enqueued]) -> None:
    enqueue("a", 1)
    with pytest.raises(FingerprintMismatch):
        enqueue("a", 2)
    tasks.pay("b", 1)
    with pytest.raises(FingerprintMismatch):
        enqueue("b", 2)


def test_where_the_queue_refuses_the_mark_is_taken_back() -> None:
    def refuse() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        enqueue_once(tasks.pay, ("a",), send=refuse)
    assert QueuedJob.objects.count() == 0


def test_many_at_the_same_time_send_it_once(sent: list[str], enqueue: Callable[..., Enqueued]) -> None:
    def one(_: int) -> bool:
        try:
            return bool(enqueue("a"))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 1
    assert sent == ["a"]
    assert Payment.objects.count() == 0

"""What is sent to Celery's broker once, and when; and what LedgerTask makes of a function."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery, current_app, shared_task
from celery.app.trace import build_tracer
from celery.contrib.testing.app import setup_default_app
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from django_idempotency.contrib.celery import LedgerTask, enqueue_once
from django_idempotency.exceptions import FingerprintMismatch
from django_idempotency.jobs import RetryLater, job_of, run_once
from django_idempotency.stores import get_store
from tests.callers import new_key
from tests.contrib.celery_jobs import pay, pay_bound, pay_plainly
from tests.contrib.celery_workers import empty_broker
from tests.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)


class Broker:
    """A broker that no worker takes from."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def count(self) -> int:
        return int(self._client.llen("celery"))

    def first(self) -> bytes:
        message: bytes = self._client.lindex("celery", 0)
        return message


@pytest.fixture
def broker() -> Iterator[Broker]:
    with empty_broker(9) as url, redis.Redis.from_url(url) as client:
        app = Celery("tests", broker=url, set_as_current=False)
        with setup_default_app(app):
            app.set_current()
            yield Broker(client)


@pytest.mark.parametrize("task", [pay, pay_plainly])
def test_what_means_the_same_is_sent_once(broker: Broker, task: Any) -> None:
    reference = new_key()
    states = [enqueue_once(task, reference, 1).state for _ in range(3)]
    assert (states, broker.count()) == (["sent", "queued", "queued"], 1)
    assert enqueue_once(task, new_key(), 1)
    assert broker.count() == 2


def test_it_is_sent_after_the_commit_or_not_at_all(broker: Broker) -> None:
    reference = new_key()
    with suppress(RuntimeError), transaction.atomic():
        assert pay.enqueue_once(reference, 1)
        raise RuntimeError
    assert broker.count() == 0
    with transaction.atomic():
        assert pay.enqueue_once(reference, 1)
        assert broker.count() == 0
    assert broker.count() == 1


def test_what_is_done_is_not_sent(broker: Broker) -> None:
    reference = new_key()
    pay_bound(reference, amount=1)
    assert pay_bound.enqueue_once(reference, amount=1).state == "completed"
    assert broker.count() == 0
    with pytest.raises(FingerprintMismatch):
        pay_bound.enqueue_once(reference, amount=2)


def test_a_signature_is_sent_with_its_options(broker: Broker) -> None:
    message = pay.s(new_key(), amount=1).set(countdown=60, queue="slow")
    assert enqueue_once(message)
    assert not enqueue_once(message)
    assert broker.count() == 0  # it waits in the queue that it names
    assert broker._client.llen("slow") == 1


def test_a_broker_that_is_away_leaves_no_mark(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = new_key()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(LedgerTask, "apply_async", fail)
        with pytest.raises(ConnectionError):
            pay.enqueue_once(reference)
    assert pay.enqueue_once(reference)
    assert broker.count() == 1


@pytest.fixture
def running() -> str:
    """The reference of a payment that somebody else is about to make."""
    reference = new_key()
    operation = job_of(pay).operation((reference,), {})
    get_store().reserve(operation, lease=timedelta(seconds=20), ttl=timedelta(days=1))
    return reference


def deliver(reference: str) -> Any:
    """Let a task run as a worker would; return what a worker would make of it."""
    request = {"id": "task-1", "called_directly": False, "is_eager": False, "args": [reference], "kwargs": {}}
    trace = build_tracer(pay.name, current_app.tasks[pay.name], app=current_app)
    return trace("task-1", [reference], {}, {**request, "delivery_info": {"routing_key": "celery"}, "retries": 2})


def test_a_run_in_progress_has_the_same_message_sent_again_for_when_its_lease_ends(
    broker: Broker, running: str
) -> None:
    assert deliver(running)[1].state == "RETRY"
    headers = json.loads(broker.first())["headers"]
    assert (headers["id"], headers["retries"]) == ("task-1", 2)
    left = datetime.fromisoformat(headers["eta"]) - timezone.now()
    assert timedelta(seconds=10) < left <= timedelta(seconds=20)


def test_it_is_left_to_the_broker_where_it_cannot_be_sent(
    broker: Broker, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(LedgerTask, "apply_async", fail)
    rejected = deliver(running)[1]
    assert (rejected.state, rejected.retval.requeue) == ("REJECTED", True)


def test_who_calls_a_task_that_runs_is_told_so(broker: Broker, running: str) -> None:
    for call in (lambda: pay(running), lambda: pay.apply([running], throw=True)):
        with pytest.raises(RetryLater):
            call()
    assert broker.count() == 0


def test_a_task_that_is_called_is_its_job(broker: Broker) -> None:
    reference = new_key()
    assert pay(reference) == pay(reference) == pay.apply([reference]).get()
    assert Payment.objects.filter(reference=reference).count() == 1


def test_a_job_is_acknowledged_late_unless_it_says_otherwise(broker: Broker) -> None:
    @shared_task(base=LedgerTask, acks_late=False, name="tests.hasty")
    @run_once(key="{number}")
    def hasty(number: int) -> None: ...

    @shared_task(base=LedgerTask, name="tests.free")
    def free() -> str:
        return "no job"

    assert (pay.acks_late, pay.reject_on_worker_lost) == (True, True)
    assert (hasty.acks_late, hasty.reject_on_worker_lost) == (False, True)
    assert (bool(free.acks_late), free()) == (False, "no job")


def test_the_option_and_the_decorator_are_one_too_many(broker: Broker) -> None:
    @run_once(key="{number}")
    def twice(number: int) -> None: ...

    with pytest.raises(ImproperlyConfigured, match="one is enough"):
        type("Twice", (LedgerTask,), {"name": "twice", "run": staticmethod(twice), "run_once": {"key": "{number}"}})


def test_a_class_is_a_job_too(broker: Broker) -> None:
    class Pay(LedgerTask):
        name = "tests.pay_by_class"
        run_once = {"key": "class:{reference}", "lease": timedelta(seconds=5)}

        def run(self, reference: str) -> str:
            Payment.objects.create(reference=reference, amount=1)
            return self.name

    reference, task = new_key(), current_app.register_task(Pay())
    assert [task(reference), task(reference)] == [task.name] * 2
    assert Payment.objects.filter(reference=reference).count() == 1
    job = job_of(task)
    assert (job.name, job.options.lease) == (task.name, timedelta(seconds=5))

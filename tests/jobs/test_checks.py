"""Jobs that make no sense are refused when they are defined, or found by a check."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.test import override_settings

from django_idempotency.jobs import run_once
from django_idempotency.jobs.checks import check_all, check_jobs
from tests.jobs import tasks


@pytest.mark.parametrize(
    "options",
    [
        {"key": "invoice:{number}"},
        {"key": "invoice:{0}"},
        {"key": "invoice"},
        {"key": "{invoice}", "lease": timedelta(0)},
        {"key": "{invoice}", "lease": timedelta(seconds=3), "heartbeat": timedelta(seconds=3)},
        {"key": "{invoice}", "heartbeat_limit": timedelta(seconds=1)},
        {"key": "{invoice}", "keep": timedelta(0)},
        {"key": "{invoice}", "on_running": "queue"},
        {"key": "{invoice}", "name": ""},
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options: dict[str, Any]) -> None:
    def function(invoice: int) -> None:
        pass

    with pytest.raises(ValueError, match=r"."):
        run_once(**options)(function)


def test_a_coroutine_function_is_not_atomic() -> None:
    async def function(invoice: int) -> None:
        pass

    with pytest.raises(ValueError, match="aatomic"):
        run_once(key="{invoice}", atomic=True)(function)


def test_a_key_may_name_open_arguments_and_parts_of_them() -> None:
    @run_once(key="{invoice[id]}:{day.year}:{line}")
    def function(invoice: dict[str, int], day: Any, **lines: int) -> None:
        pass

    operation = function.job.operation(({"id": 3}, date(2026, 3, 1)), {"line": 4})
    assert operation.key.value == "3:2026:4"


def test_the_jobs_of_the_tests_pass() -> None:
    assert list(check_all([tasks.pay.job, tasks.apay.job])) == []
    assert [message.id for message in check_jobs() if "tests.jobs.tasks" in str(message.msg)] == []


def test_two_jobs_of_one_name_are_found() -> None:
    def one(a: int) -> None:
        pass

    def other(a: int) -> None:
        pass

    jobs = [run_once(key="{a}", name="twin")(function).job for function in (one, other)]
    assert [message.id for message in check_all(jobs)] == ["idempotency.E110"]


@override_settings(IDEMPOTENCY_STORES={"default": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}})
def test_stores_that_are_missing_or_in_no_database_are_found() -> None:
    @run_once(key="{a}", store="nowhere")
    def job(a: int) -> None:
        pass

    assert [message.id for message in check_all([tasks.pay.job, job.job])] == ["idempotency.W112", "idempotency.E111"]

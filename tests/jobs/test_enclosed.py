"""Jobs in a TestCase, whose transaction is around everything."""

from __future__ import annotations

import pytest
from django.test import TestCase

from django_idempotency.jobs.models import JobRun
from tests.jobs import tasks
from tests.models import Payment


class EnclosedTests(TestCase):
    """What a project's own tests do."""

    def test_a_job_runs_once(self) -> None:
        assert tasks.pay("a") == tasks.pay("a")
        assert Payment.objects.count() == 1

    def test_parts_and_failures(self) -> None:
        assert tasks.pay_in_parts("a", run_id := 1) == tasks.pay_in_parts("a", run_id)
        with pytest.raises(TypeError):
            tasks.pay("a", amount=object())
        assert JobRun.objects.count() == 1

"""The invoice job of the demo, without a broker: by hand, and in processes one of which is killed."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.demo.commands import MANAGE, environment, manage

RESTART = """
import json, sys
import django; django.setup()
from demo_project.queues import Order, Processes
order = Order(sys.argv[1], sys.argv[2], 1000)
print(json.dumps([Processes().send(order, fault=fault) for fault in ("kill", "")]))
from django_idempotency.models import JobRun
runs = JobRun.objects.filter(key=f"invoice:{order.order_id}").order_by("run_id")
print(json.dumps([run.status for run in runs]))
"""


def test_an_invoice_that_is_asked_for_by_hand_again_is_the_one_there_is(seeded_url, rows, user_id):
    printed = [manage("issue_invoice", f"{user_id}-1", user_id, "1000", env=environment(seeded_url)) for _ in range(2)]
    answers = [json.loads(ended.stdout) for ended in printed]
    assert [answer["id"] for answer in answers] == rows("demo_invoice", user_id) * 2
    refused = manage("issue_invoice", f"{user_id}-1", user_id, "2000", env=environment(seeded_url))
    assert "FingerprintMismatch" in refused.stderr


def test_where_there_is_no_broker_a_killed_job_is_run_again_by_another_process(seeded_url, rows, user_id):
    command = [sys.executable, "-c", RESTART, f"{user_id}-1", user_id]
    told = {"capture_output": True, "text": True, "timeout": 120, "check": False}
    ended = subprocess.run(command, env=environment(seeded_url), cwd=MANAGE.parent, **told)
    assert ended.returncode == 0, ended.stderr
    answers, statuses = map(json.loads, ended.stdout.splitlines())
    assert [answer["id"] for answer in answers] == rows("demo_invoice", user_id) * 2
    assert statuses == ["taken_over", "executed"]

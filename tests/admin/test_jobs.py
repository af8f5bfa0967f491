"""Runs of jobs, and what waits in a queue, can be read and found in the admin, and only that."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from django_idempotency.jobs import enqueue_once
from django_idempotency.models import JobRun, QueuedJob, Record
from tests.admin.desks import CANARY_KEY, seat, staff
from tests.jobs import tasks

HOSTILE = "<script>alert(1)</script>"
_MANY = """
INSERT INTO idempotency_jobrun (
    run_id, job, key, digest, attempt, worker, origin, status, is_forced, error, started_at, completed_at
)
SELECT md5(n::text)::uuid, 'job ' || n % 3, 'key ' || n, sha256(n::text::bytea), 1, 'host:1', '',
    CASE WHEN n % 1000 = 0 THEN 'failed' ELSE 'executed' END, false, '', now(), now()
FROM generate_series(1, 30000) AS n
"""
LIST = "admin:idempotency_jobrun_changelist"


@pytest.fixture
def desk(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def run(desk: Client) -> JobRun:
    """A key whose first run has failed and whose second one was replayed."""
    with pytest.raises(ValueError, match="expected a number"):
        tasks.pay(HOSTILE, amount=HOSTILE)
    for _ in range(3):
        tasks.pay(HOSTILE, 1)
    return JobRun.objects.latest("run_id")


def page(desk: Client, run: JobRun) -> str:
    return desk.get(reverse("admin:idempotency_jobrun_change", args=[run.pk])).content.decode()


def test_runs_are_shown_as_text_with_what_has_happened_to_their_key(desk: Client, run: JobRun) -> None:
    shown, listed = page(desk, run), desk.get(reverse(LIST)).content.decode()
    for text in (shown, listed):
        assert "&lt;script&gt;" in text
        assert HOSTILE not in text
    assert listed.count("/change/") == 2
    assert shown.count("ValueError") == 1
    assert "failed" in shown
    assert "replayed" in shown
    record = Record.objects.get()
    assert reverse("admin:idempotency_record_change", args=[record.pk]) in shown


def test_the_record_shows_the_runs_too(desk: Client, run: JobRun) -> None:
    record = Record.objects.get()
    shown = desk.get(reverse("admin:idempotency_record_change", args=[record.pk])).content.decode()
    assert shown.count("ValueError") == 1
    assert shown.count('<tr class="idempotency-moment') == 7  # two runs that begin and end, two replays, the expiry


def test_runs_are_narrowed_down_and_found(desk: Client, run: JobRun) -> None:
    tasks.pay_in_parts("b")
    for query, count in (
        ({"job": "pay in parts"}, 1),
        ({"job": run.job}, 2),
        ({"status__exact": "failed"}, 1),
        ({"q": run.key}, 2),
        ({"q": str(run.run_id)}, 1),
        ({"q": bytes(run.digest).hex()[:10]}, 2),
        ({"q": "alert"}, 0),
    ):
        assert desk.get(reverse(LIST), query).content.decode().count("/change/") == count, query


def test_the_page_of_a_run_whose_record_is_gone(desk: Client, run: JobRun) -> None:
    Record.objects.all()._raw_delete("default")
    assert "ValueError" in page(desk, run)


def test_queued_jobs_are_shown(desk: Client) -> None:
    enqueue_once(tasks.pay, ("a",), send=lambda: None)
    shown = desk.get(reverse("admin:idempotency_queuedjob_changelist")).content.decode()
    assert "payment:a" in shown
    change = reverse("admin:idempotency_queuedjob_change", args=[QueuedJob.objects.get().pk])
    assert "payment:a" in desk.get(change).content.decode()


def test_nobody_can_add_change_or_delete_runs(desk: Client, run: JobRun) -> None:
    assert desk.get(reverse("admin:idempotency_jobrun_add")).status_code == 403
    assert desk.get(reverse("admin:idempotency_jobrun_delete", args=[run.pk])).status_code == 403
    change = reverse("admin:idempotency_jobrun_change", args=[run.pk])
    assert desk.post(change, {"status": "failed"}).status_code == 403
    run.refresh_from_db()
    assert run.status == "executed"


@pytest.mark.postgresql
def test_the_list_reads_along_indexes(desk: Client, django_assert_max_num_queries: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_MANY)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE idempotency_jobrun")
        cursor.execute(
            "SELECT pg_stat_force_next_flush(), pg_stat_reset_single_table_counters('idempotency_jobrun'::regclass)"
        )
        for query in ({}, {"job": "job 1"}, {"status__exact": "failed"}, {"q": "key 7"}):
            with django_assert_max_num_queries(10):
                assert desk.get(reverse(LIST), query).status_code == 200
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'idempotency_jobrun'")
        assert cursor.fetchone() == (0,)


def test_whole_keys_are_shown_to_those_who_may_see_them(run: JobRun) -> None:
    tasks.pay(CANARY_KEY)
    newest = JobRun.objects.latest("run_id")
    for name, permissions, is_shown in (("viewer", (), False), ("revealer", ("reveal_body",), True)):
        seat_of = seat(staff(name, "view_jobrun", *permissions))
        for address in (reverse(LIST), reverse("admin:idempotency_jobrun_change", args=[newest.pk])):
            shown = seat_of.get(address).content.decode()
            assert bytes(newest.digest[:4]).hex() in shown
            assert (CANARY_KEY in shown) is is_shown

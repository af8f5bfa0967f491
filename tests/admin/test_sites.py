"""Where the pages are registered, and what each of them may cost."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import path, reverse

from django_idempotency.admin import register
from django_idempotency.models import AuditEvent, Record, Rollup
from tests.admin.desks import make_events, make_record, make_waiting, page_of, verb_of

site = admin.AdminSite(name="back-office")
register(site)
urlpatterns = [path("office/", site.urls)]

LISTED = (
    "import django; django.setup(); from django.contrib import admin; admin.autodiscover(); "
    "print(sorted(model.__name__ for model in admin.site._registry if model._meta.app_label == 'idempotency'))"
)


@pytest.mark.parametrize(
    ("is_on", "models"),
    [
        (
            "True",
            "['AuditEvent', 'ConsumedEvent', 'ConsumerOffset', 'DedupEntry', 'DedupInterval', 'Generation', 'JobRun', "
            "'OutboxEvent', 'ParkedEvent', 'QueuedJob', 'Record', 'Rollup', 'WatermarkRow']",
        ),
        ("False", "[]"),
    ],
)
def test_a_setting_keeps_the_pages_off_the_default_site(tmp_path: Any, is_on: str, models: str) -> None:
    (tmp_path / "desk_settings.py").write_text(f"from tests.settings import *\nIDEMPOTENCY_ADMIN = {is_on}\n")
    environment = {
        **os.environ,
        "DATABASE_URL": "sqlite://:memory:",
        "DJANGO_SETTINGS_MODULE": "desk_settings",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()]),
    }
    done = subprocess.run([sys.executable, "-c", LISTED], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == models


@override_settings(ROOT_URLCONF="tests.admin.test_sites")
def test_every_page_works_on_a_site_of_ones_own(transactional_db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    record, event = make_record(about="idempotency.record:1", scope="tenant:1"), make_events("replayed")
    addresses = [
        reverse("back-office:app_list", args=["idempotency"]),
        *(reverse(f"back-office:idempotency_{model}_changelist") for model in ("record", "auditevent", "rollup")),
        reverse("back-office:idempotency_record_change", args=[record.pk]),
        reverse("back-office:idempotency_auditevent_change", args=[event.pk]),
        reverse("back-office:idempotency_record_purge"),
        reverse("back-office:idempotency_record_erase", args=[record.pk]),
    ]
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200, address
        assert 'href="/admin/' not in response.content.decode()
        assert "/office/idempotency/" in response.content.decode()


def statements(count: int, budget: Any, client: Client, address: str) -> None:
    with budget(count) as queries:
        assert client.get(address).status_code == 200
    looked = [query["sql"] for query in queries if "idempotency_" in query["sql"]]
    assert not any("response_body" in sql and "length" not in sql for sql in looked)
    assert not any("DISTINCT" in sql for sql in looked)


def test_each_page_takes_a_fixed_number_of_statements(
    auditor: Client, operator: Client, django_assert_max_num_queries: Any
) -> None:
    for size in (1, 60):
        for _number in range(size):
            record, event = make_record(), make_events("replayed")
            make_waiting("in_progress", lapsed=True)
            make_waiting("unknown")
        make_events("mismatch", digest=bytes(record.digest))
        for model, count in (("record", 15), ("auditevent", 13), ("rollup", 13)):
            for query in ("", "?window=all", "?q=none", f"?q={record.key}", "?operation=POST+payment-list"):
                address = reverse(f"admin:idempotency_{model}_changelist") + query
                statements(count, django_assert_max_num_queries, auditor, address)
        index = reverse("admin:app_list", args=["idempotency"])
        statements(23, django_assert_max_num_queries, auditor, index)
        statements(8, django_assert_max_num_queries, auditor, page_of(record))
        statements(
            6, django_assert_max_num_queries, auditor, reverse("admin:idempotency_auditevent_change", args=[event.pk])
        )
        statements(8, django_assert_max_num_queries, operator, verb_of(record, "erase"))


def test_every_table_of_the_desk_can_be_read_and_nothing_else(desk: Client) -> None:
    for model in (Record, AuditEvent, Rollup):
        name = f"admin:idempotency_{model._meta.model_name}"
        assert desk.get(reverse(f"{name}_add")).status_code == 403
        assert desk.get(reverse(f"{name}_delete", args=[1])).status_code == 403

"""Events that wait for another writer, on SQLite, are written down at the latest when their process ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from django_idempotency.audit.models import AuditEvent
from tests.campaigns.harness import ROOT, TIMEOUT, database_url

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]

WHILE_SOMEBODY_WRITES = """
import os, sqlite3, sys
import django
django.setup()
from django.conf import settings
from django_idempotency.audit.writing import append
other = sqlite3.connect(settings.DATABASES["default"]["NAME"], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
append("default", "replayed", operation="POST somewhere")
assert not other.execute("SELECT count(*) FROM idempotency_auditevent").fetchone()[0]
other.execute("ROLLBACK")
if sys.argv[1] == "fork" and not os.fork():
    sys.exit()
if sys.argv[1] == "fork":
    os.wait()
"""


@pytest.mark.parametrize("ending", ["exit", "fork"])
def test_a_process_that_ends_leaves_its_events_behind_once(ending: str) -> None:
    environment = {**os.environ, "DATABASE_URL": database_url({}), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-c", WHILE_SOMEBODY_WRITES, ending]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=TIMEOUT)
    assert AuditEvent.objects.filter(event="replayed").count() == 1

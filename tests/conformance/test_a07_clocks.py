"""A7: leases end by the clock of the database, whatever the clocks of the processes say."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from django_idempotency.stores.models import Record
from django_idempotency.testing import DAY
from tests.callers import Caller, new_key
from tests.campaigns.harness import ROOT, database_url
from tests.conformance.views_leases import be_killed, lapse

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
pytestmark = pytest.mark.urls("tests.conformance.urls_leases")


@pytest.fixture(autouse=True)
def _mortal_store(settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "tests.conformance.views_leases.MortalStore"}}


LIBRARIES = [
    *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
    *Path("/usr/local/lib").glob("**/libfaketimeMT.so.1"),
]
SKEWED = """
import sys, django
django.setup()
from django.conf import settings
from django.test import Client
from tests.conformance.views_responses import scripted
settings.ROOT_URLCONF = "tests.conformance.urls_leases"
token, key, path = sys.argv[1:]
headers = {"Authorization": f"Token {token}", "Idempotency-Key": f'"{key}"'}
with scripted():
    print(Client().post(path, '{"amount": 3}', content_type="application/json", headers=headers).status_code)
"""


def post_skewed(caller: Caller, path: str, *, key: str, skew: str) -> int:
    """Send a request to a process whose clock is wrong."""
    clock = {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": skew, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    environment = {**os.environ, "DATABASE_URL": database_url({}), "DJANGO_SETTINGS_MODULE": "tests.settings", **clock}
    command = [sys.executable, "-c", SKEWED, caller.token.key, key, path]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.postgresql  # SQLite has no other clock than that of the host
@pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed")
@pytest.mark.parametrize("skew", ["-1h", "+1h"])
def test_a7_88_leases_end_by_the_clock_of_the_database(alice: Caller, skew: str) -> None:
    live, lapsed, fresh = new_key(), new_key(), new_key()
    for key in (live, lapsed):
        be_killed(alice, "/leased/", key=key)
    lapse(lapsed)
    assert post_skewed(alice, "/leased/", key=live, skew=skew) == 409
    assert post_skewed(alice, "/leased/", key=lapsed, skew=skew) == 201
    assert post_skewed(alice, "/leased/", key=fresh, skew=skew) == 201
    assert dict(Record.objects.values_list("key", "attempt")) == {live: 1, lapsed: 2, fresh: 1}
    for record in Record.objects.filter(status="completed"):
        assert abs(record.expires_at - record.completed_at - DAY) < SECOND
        assert abs(record.completed_at - Record.objects.values_list(Now(), flat=True)[0]) < MINUTE

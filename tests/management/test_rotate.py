"""``idempotency_rotate`` takes encrypted outcomes to the newest key, and loses none on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from django_idempotency.conf import settings as ours
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.harness import ROOT, database_url, eventually
from tests.campaigns.redis_faults import patiently_cached
from tests.conformance.urls_protection import SECRET, SteppingView
from tests.conformance.views_responses import elsewhere, scripted
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_protection")
OLD, NEW = ("old",), ("new", "old")


def rotate(*arguments: str) -> Any:
    output = StringIO()
    call_command("idempotency_rotate", *arguments, "--json", stdout=output, stderr=StringIO())
    return json.loads(output.getvalue())


def keep(alice: Caller, settings: Any, count: int, path: str = "/encrypted/") -> list[tuple[str, bytes]]:
    """Keep outcomes under the old key, then configure the new one; return client's keys and bodies."""
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = OLD
    keys = [new_key() for _ in range(count)]
    kept = [(key, alice.post(path, key=key).content) for key in keys]
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = NEW
    return kept


def key_ids() -> set[str]:
    return set(Record.objects.values_list("sealed_with", flat=True))


def test_what_was_kept_under_an_old_key_replays_after_that_is_gone(alice: Caller, settings: Any) -> None:
    with scripted() as script:
        kept = keep(alice, settings, 5) + keep(alice, settings, 1, "/leased/")
        facts = rotate("--batch-size=2")
        assert facts == {"key": ours.vault.key_id, "rotated": 6, "unreadable": [], "left": {}, "complete": True}
        settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("new",)
        paths = ["/encrypted/"] * 5 + ["/leased/"]
        for path, (key, body) in zip(paths, kept, strict=True):
            assert alice.post(path, key=key).content == body
    assert script.calls == Payment.objects.count() == 6
    assert rotate()["rotated"] == 0


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with patiently_cached() as client:
        yield client


def test_the_copy_in_redis_goes_so_that_the_new_one_is_found(alice: Caller, client: redis.Redis, settings: Any) -> None:
    with scripted() as script:
        ((key, body),) = keep(alice, settings, 1)
        rotate()
        settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("new",)
        assert client.keys("*") == []
        assert alice.post("/encrypted/", key=key).content == body
    assert script.calls == 1


def test_what_is_in_clear_or_expired_is_left_alone(alice: Caller, settings: Any) -> None:
    with scripted():
        alice.post("/full/", key=new_key())
        keep(alice, settings, 1)
        Record.objects.exclude(sealed_with="").update(expires_at=timezone.now() - timedelta(hours=1))
        before = list(Record.objects.order_by("id").values_list("response_body", "sealed_with"))
        assert rotate()["rotated"] == 0
    assert [(bytes(body), key) for body, key in before] == [
        (bytes(body), key) for body, key in Record.objects.order_by("id").values_list("response_body", "sealed_with")
    ]


def test_a_dry_run_counts_by_key(alice: Caller, settings: Any) -> None:
    with scripted():
        keep(alice, settings, 3)
    (old,) = key_ids()
    facts = rotate("--dry-run")
    assert (facts["rotated"], facts["left"], facts["complete"]) == (0, {old: 3}, False)
    assert key_ids() == {old}


def test_what_cannot_be_decrypted_is_named_and_stays(alice: Caller, settings: Any) -> None:
    with scripted():
        keep(alice, settings, 3)
    broken = Record.objects.order_by("id")[1]
    Record.objects.filter(pk=broken.pk).update(response_body=b"broken")
    output = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("idempotency_rotate", "--batch-size=1", "--json", stdout=output)
    facts = json.loads(output.getvalue())
    assert raised.value.returncode == 3
    assert (facts["rotated"], facts["unreadable"]) == (2, [bytes(broken.digest).hex()])
    assert facts["left"] == {broken.sealed_with: 1}
    assert bytes(Record.objects.get(pk=broken.pk).response_body or b"") == b"broken"


@pytest.mark.postgresql
def test_it_waits_for_nobody_and_another_run_finds_what_was_locked(alice: Caller, settings: Any) -> None:
    with scripted():
        keep(alice, settings, 3)
    with transaction.atomic():
        locked = Record.objects.select_for_update().order_by("id")[0]
        facts = elsewhere(rotate)
    assert (facts["rotated"], facts["left"]) == (2, {locked.sealed_with: 1})
    assert rotate()["rotated"] == 1


def test_the_results_of_steps_that_may_be_resumed_are_rotated_too(
    alice: Caller, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = OLD
    key, old = new_key(), ours.vault.key_id
    monkeypatch.setattr(SteppingView, "calls", 0)
    monkeypatch.setattr(SteppingView, "breaks_off", True)
    assert alice.post("/stepping/", key=key).status_code == 500
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = NEW
    assert rotate("--dry-run")["left"] == {old: 1}
    assert rotate()["rotated"] == 1
    assert rotate()["rotated"] == 0
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("new",)
    monkeypatch.setattr(SteppingView, "breaks_off", False)
    assert alice.post("/stepping/", key=key).json() == {"token": SECRET}
    assert SteppingView.calls == 1


def test_steps_whose_key_is_gone_are_not_taken_again(
    alice: Caller, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = OLD
    key = new_key()
    monkeypatch.setattr(SteppingView, "calls", 0)
    monkeypatch.setattr(SteppingView, "breaks_off", True)
    alice.post("/stepping/", key=key)
    monkeypatch.setattr(SteppingView, "breaks_off", False)
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("new",)
    refused = alice.post("/stepping/", key=key)
    assert (refused.status_code, refused.json()["code"]) == (503, "outcome-unreadable")
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = NEW
    assert alice.post("/stepping/", key=key).json() == {"token": SECRET}
    assert SteppingView.calls == 1


@pytest.mark.parametrize("argument", ["--batch-size=0", "--store=elsewhere"])
def test_a_senseless_argument_is_an_error(alice: Caller, argument: str) -> None:
    with pytest.raises(CommandError):
        rotate(argument)


def test_a_store_without_a_table_is_an_error(alice: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}}
    with pytest.raises(CommandError, match="could reach"):
        rotate()


ROTATING = """
import django
from django.test import override_settings
django.setup()
from django.core.management import call_command
with override_settings(IDEMPOTENCY_ENCRYPTION_KEYS=("new", "old")):
    call_command("idempotency_rotate", "--batch-size=1", "--json")
"""


def test_killed_at_any_moment_it_loses_nothing_and_goes_on_from_there(alice: Caller, settings: Any) -> None:
    """The process is killed twice in the middle of its work: after each some are done, and all can be read."""
    count = 120
    with scripted() as script:
        kept = keep(alice, settings, count)
        new = ours.vault.key_id
        environment = {**os.environ, "DATABASE_URL": database_url({}), "DJANGO_SETTINGS_MODULE": "tests.settings"}
        for kills in (1, 2):
            before = Record.objects.filter(sealed_with=new).count()
            with subprocess.Popen([sys.executable, "-c", ROTATING], cwd=ROOT, env=environment) as process:
                try:
                    eventually(lambda: Record.objects.filter(sealed_with=new).count() > before, "some rotated")  # noqa: B023
                finally:
                    process.send_signal(signal.SIGKILL)
            assert process.returncode == -signal.SIGKILL, f"it was done before kill {kills}"
            assert before < Record.objects.filter(sealed_with=new).count() < count
        connection.close()
        done = Record.objects.filter(sealed_with=new).count()
        assert rotate()["rotated"] == count - done
        settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("new",)
        assert all(alice.post("/encrypted/", key=key).content == body for key, body in kept)
    assert script.calls == count

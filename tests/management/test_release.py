"""``idempotency_release`` settles what is stuck or unknown, and leaves alone what is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.urls import path
from django.utils import timezone
from rest_framework.authentication import TokenAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import Policy
from django_idempotency.core.leases import Lease
from django_idempotency.core.steps import Step, Steps
from django_idempotency.models import AuditEvent, Record
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.stores import get_store
from django_idempotency.testing import make_operation
from tests.callers import Caller, new_key
from tests.campaigns.harness import ROOT, TIMEOUT, database_url
from tests.models import Payment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]
KEY = "a-key-that-nobody-may-see"
SECRET = "a body that nobody may see"
RUN = "runs anew with the next request"


class PayoutView(IdempotencyMixin, APIView):
    authentication_classes = (TokenAuthentication,)
    idempotency = Policy(required=True, claim="lease", on_crash="unknown")
    breaks_off = True

    def post(self, request: Any) -> Response:
        Payment.objects.create(amount=1)
        if self.breaks_off:
            raise OSError("the bank did not answer")
        return Response({"paid": True}, status=201)


urlpatterns = [path("payouts/", PayoutView.as_view())]


class Said(NamedTuple):
    output: str
    errors: str

    @property
    def facts(self) -> Any:
        return json.loads(self.output)


def release(*arguments: str) -> Said:
    output, errors = StringIO(), StringIO()
    call_command("idempotency_release", *arguments, stdout=output, stderr=errors)
    said = Said(output.getvalue(), errors.getvalue())
    assert not any(secret in part for secret in (KEY, SECRET) for part in said)
    return said


def decide(*arguments: str) -> Said:
    return release(*arguments, "--reason", "the bank says so")


def refusal(*arguments: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as raised:
        decide(*arguments)
    assert KEY not in str(raised.value)
    return raised.value.returncode, str(raised.value)


def reserve(key: str = "", *, scope: str = "user:1") -> Lease:
    lease = get_store().reserve(make_operation(key=key, scope=scope), lease=timedelta(days=1), ttl=timedelta(days=1))
    assert isinstance(lease, Lease)
    return lease


def unknown(*steps: Step, key: str = "", scope: str = "user:1") -> str:
    """Leave a record of unknown outcome; return its digest."""
    lease = reserve(key, scope=scope)
    get_store().write_steps(lease, Steps(steps))
    lease.steps.become(Steps(steps))
    get_store().release(lease, unknown=True)
    return digest(lease)


def lapse(lease: Lease) -> None:
    Record.objects.filter(digest=lease.operation.key.digest).update(lease_expires_at=timezone.now())


def digest(lease: Lease) -> str:
    return lease.operation.key.digest.hex()


def statuses() -> list[str]:
    return list(Record.objects.order_by("id").values_list("status", flat=True))


RESERVED, TRANSFER = Step(name="reserve", is_done=True, result=SECRET), Step(name="transfer")


# What waits


def test_the_list_shows_unknown_outcomes_and_lapsed_leases_and_nothing_else() -> None:
    live, lapsed, broken = reserve(), reserve(), unknown(RESERVED, TRANSFER, key=KEY)
    lapse(lapsed)
    text = release("--list").output
    first, second, summary = text.splitlines()
    assert first.startswith(f"{digest(lapsed)[:16]}  lapsed  0:00:")
    assert first.endswith("attempt 1  POST payment-list  user:1  steps: none")
    assert second.startswith(f"{broken[:16]}  unknown  0:00:")
    assert second.endswith("steps: reserve done, transfer begun")
    assert summary == "2 waiting."
    assert digest(live)[:16] not in text


def test_the_list_as_json() -> None:
    lease = reserve()
    lapse(lease)
    broken = unknown(RESERVED, TRANSFER, key=KEY)
    Record.objects.filter(digest=bytes.fromhex(broken)).update(created_at=timezone.now() - timedelta(hours=2))
    lapsed, second = release("--list", "--json").facts
    assert (lapsed["digest"], lapsed["status"], lapsed["has_lapsed"]) == (digest(lease), "in_progress", True)
    assert 7200 <= second.pop("age") < 7260
    assert second == {
        "digest": broken,
        "operation": "POST payment-list",
        "scope": "user:1",
        "status": "unknown",
        "has_lapsed": False,
        "attempt": 1,
        "steps": [{"name": "reserve", "state": "done"}, {"name": "transfer", "state": "begun"}],
    }
    assert release("--list", "--json", "--limit=1").facts == [lapsed | {"age": pytest.approx(lapsed["age"], abs=30)}]


# Which record is meant


@pytest.mark.parametrize("digits", [8, 9, 16, 64])
def test_a_record_is_found_by_the_beginning_of_its_digest(digits: int) -> None:
    unknown(scope="user:2")
    wanted = unknown()
    assert decide(wanted[:digits].upper(), "--json").facts["digest"] == wanted
    assert statuses() == ["unknown"]


def test_a_beginning_that_several_share_is_refused() -> None:
    digests = [bytes.fromhex("abcd1234" + last.rjust(56, "0")) for last in ("1", "ff")]
    for value, wanted in zip([unknown(), unknown()], digests, strict=True):
        Record.objects.filter(digest=bytes.fromhex(value)).update(digest=wanted)
    code, message = refusal("abcd1234")
    assert code == 3
    assert "Several" in message
    assert statuses() == ["unknown", "unknown"]
    decide(digests[1].hex()[:63])
    assert bytes(Record.objects.get().digest) == digests[0]


@pytest.mark.parametrize("name", ["abcd123", "0" * 65, "xyzxyzxyz", "00000000"])
def test_what_is_no_digest_of_a_record_is_refused(name: str) -> None:
    unknown()
    assert refusal(name)[0] == 3
    assert statuses() == ["unknown"]


@pytest.mark.parametrize("kept", ["plain", "digest"])
def test_a_record_is_found_by_its_key(kept: str) -> None:
    with override_settings(IDEMPOTENCY_STORE_KEYS=kept):
        wanted = unknown(key=KEY)
        unknown(key=KEY, scope="user:2")
    exact = ("--scope=user:1", "--operation=POST payment-list")
    assert decide(f"--key={KEY}", *exact, "--json").facts["digest"] == wanted
    assert refusal(f"--key={KEY}", *exact)[0] == 3
    assert statuses() == ["unknown"]


def test_a_key_of_several_scopes_needs_the_scope() -> None:
    unknown(key=KEY)
    wanted = unknown(key=KEY, scope="user:2")
    assert refusal(f"--key={KEY}")[0] == 3
    assert decide(f"--key={KEY}", "--scope=user:2", "--json").facts["digest"] == wanted


@pytest.mark.parametrize("arguments", [[], ["abcd1234", "--key=k"]])
def test_one_record_must_be_named(arguments: list[str]) -> None:
    code, message = refusal(*arguments)
    assert (code, "--list" in message) == (1, True)


# What is decided


def test_a_released_record_is_gone() -> None:
    lapsed = reserve(KEY)
    lapse(lapsed)
    assert decide(digest(lapsed)).output.endswith(f"(was in_progress) {RUN}.\n")
    said = decide(unknown(RESERVED, TRANSFER, key=KEY)).output
    assert said.endswith(f"(was unknown) {RUN}; forgotten are the steps: reserve, transfer.\n")
    assert statuses() == []
    assert AuditEvent.objects.count() == 2


def test_a_record_that_was_given_up_after_a_step_can_be_released() -> None:
    lease = reserve()
    get_store().write_steps(lease, Steps([RESERVED]))
    lease.steps.become(Steps([RESERVED]))
    get_store().release(lease, unknown=False)
    assert statuses() == ["released"]
    decide(digest(lease))
    assert statuses() == []


def test_what_was_not_done_keeps_its_finished_steps() -> None:
    said = decide(unknown(RESERVED, TRANSFER, key=KEY), "--not-done").output
    assert said.endswith("is resumed by the next request, after the steps: reserve.\n")
    record = Record.objects.get()
    assert record.status == "released"
    assert [step["name"] for step in record.steps or ()] == ["reserve"]
    assert decide(unknown(TRANSFER), "--not-done").output.endswith("after the steps: none.\n")


def test_a_live_lease_needs_force_and_is_warned_of() -> None:
    lease = reserve()
    code, message = refusal(digest(lease))
    assert (code, "has not ended" in message) == (4, True)
    assert statuses() == ["in_progress"]
    assert "still held" in decide(digest(lease), "--force").errors
    assert statuses() == []


def test_a_completed_record_is_refused() -> None:
    wanted = unknown()
    decide(wanted, "--done", "--status=204")
    for arguments in ([], ["--not-done"], ["--force"], ["--done", "--status=204"]):
        assert refusal(wanted, *arguments) == (4, "The record is completed: nothing to release.")
    assert statuses() == ["completed"]


def test_a_change_needs_a_reason() -> None:
    wanted = unknown()
    with pytest.raises(CommandError, match="--reason"):
        release(wanted)
    assert statuses() == ["unknown"]


@pytest.mark.parametrize(
    ("arguments", "event"),
    [([], "released"), (["--not-done"], "resolved_not_done"), (["--done", "--status=204"], "resolved_done")],
)
def test_a_dry_run_changes_nothing(arguments: list[str], event: str) -> None:
    wanted = unknown(RESERVED)
    before = list(Record.objects.values())
    facts = release(wanted, *arguments, "--dry-run", "--json").facts
    assert (facts["event"], facts["dry_run"], facts["digest"]) == (event, True, wanted)
    assert release(wanted, *arguments, "--dry-run").output.startswith("Would be done: ")
    assert list(Record.objects.values()) == before
    assert AuditEvent.objects.count() == 0
    assert decide(wanted, *arguments, "--json").facts == facts | {"dry_run": False, "age": pytest.approx(1, abs=30)}


def test_the_audit_names_the_actor_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    decide(unknown())
    decide(unknown(), "--actor=ticket desk")
    told = AuditEvent.objects.order_by("id").values_list("actor", "reason")
    assert list(told) == [("user:grace", "the bank says so"), ("ticket desk", "the bank says so")]


# The response that retries get


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--status=201"],
        ["--status=201", "--body=a", "--body-file=b"],
        ["--status=201", "--body-file=/nowhere/at/all"],
        ["--status=500", "--body="],
        ["--status=429", "--body="],
        ["--status=100", "--body="],
        ["--status=201", "--body=", "--header=Location"],
        ["--status=201", "--body=", "--header=: /x"],
        ["--status=201", "--body=", "--header=Location: /x\r\nSet-Cookie: a=b"],
        ["--status=201", "--body=", "--header=Set-Cookie: a=b"],
        ["--status=201", "--body=too long"],
        ["--status=201", "--body=", "--ttl=0"],
        ["--status=201", "--body=", "--store=elsewhere"],
    ],
)
@override_settings(IDEMPOTENCY_MAX_BODY=7)
def test_a_response_that_no_replay_could_send_is_refused(arguments: list[str]) -> None:
    assert refusal(unknown(), "--done", *arguments)[0] == 1
    assert statuses() == ["unknown"]
    assert AuditEvent.objects.count() == 0


@override_settings(
    IDEMPOTENCY_STORES={"default": {"BACKEND": "django_idempotency.stores.memory.MemoryStore"}},
)
def test_a_store_in_memory_is_out_of_reach() -> None:
    assert refusal("--list")[1] == "The store 'default' keeps no records that a command could reach."


def test_the_response_is_replayed_to_the_client_until_it_expires(alice: Caller, tmp_path: Path) -> None:
    key, body = new_key(), tmp_path / "body.json"
    body.write_bytes('{"paid": "é"}'.encode())
    assert alice.post("/payouts/", key=key).status_code == 500
    assert json.loads(alice.post("/payouts/", key=key).content)["code"] == "outcome-unknown"
    response = ["--done", "--status=201", f"--body-file={body}", "--header=Location: /payouts/1/", "--ttl=3600"]
    said = decide(f"--key={key}", *response, "--header=X-Bank: 7", "--content-type=application/json").output
    assert said.endswith("is completed: retries get the response.\n")
    again = alice.post("/payouts/", key=key)
    assert (again.status_code, again.content) == (201, body.read_bytes())
    assert again["Idempotent-Replayed"] == "true"
    assert (again["Location"], again["X-Bank"], again["Content-Type"]) == ("/payouts/1/", "7", "application/json")
    record = Record.objects.get()
    assert abs(record.expires_at - timezone.now() - timedelta(hours=1)) < timedelta(seconds=30)
    assert Payment.objects.count() == 0


@pytest.mark.parametrize("arguments", [[], ["--not-done"]])
def test_the_client_can_try_again(alice: Caller, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    key = new_key()
    assert alice.post("/payouts/", key=key).status_code == 500
    monkeypatch.setattr(PayoutView, "breaks_off", False)
    assert alice.post("/payouts/", key=key).status_code == 409
    decide(f"--key={key}", *arguments)
    assert alice.post("/payouts/", key=key).status_code == 201
    assert Payment.objects.count() == 1


# As a process


def test_the_process_says_by_its_exit_code_what_came_of_it() -> None:
    wanted, reason = unknown(key=KEY), "--reason=the bank says so"
    codes = [process(*arguments) for arguments in ([wanted], [wanted, reason], [wanted, reason], ["--done", "--list"])]
    assert codes == [1, 0, 3, 2]
    assert statuses() == []


def process(*arguments: str) -> int:
    ended = subprocess.run(
        [sys.executable, "manage.py", "idempotency_release", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url({})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert "Traceback" not in ended.stderr
    assert KEY not in ended.stdout + ended.stderr
    return ended.returncode


def test_a_response_can_be_kept_encrypted(alice: Caller) -> None:
    key = new_key()
    assert alice.post("/payouts/", key=key).status_code == 500
    (record,) = Record.objects.all()
    body = ("--body", SECRET, "--content-type", "text/plain", "--header", "Location: /payouts/7/")
    decide(bytes(record.digest).hex(), "--done", "--status", "201", *body, "--encrypt")
    record.refresh_from_db()
    assert record.sealed_with
    assert SECRET.encode() not in bytes(record.response_body or b"")
    replay = alice.post("/payouts/", key=key)
    assert (replay.status_code, replay.content, replay["Location"]) == (201, SECRET.encode(), "/payouts/7/")

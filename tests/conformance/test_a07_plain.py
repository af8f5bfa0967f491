"""A7: plain views are safe against duplicates, crashes and clients that go away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Barrier
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.db import connection, transaction

from django_idempotency import Policy
from django_idempotency.http import async_exchange
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.harness import eventually
from tests.campaigns.sessions import PATIENCE, Gate, atomic_requests, other_sessions, seen_from_outside
from tests.conformance.callers_plain import MIDDLEWARE, AsgiClient, assert_runs_once, log_in
from tests.conformance.views_databases import Moments
from tests.models import Payment
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_plain")

DUPLICATES = 12


class Interrupted(BaseException):
    """Ends a worker in the middle of a request, as its time-out does."""


def interrupt() -> None:
    raise Interrupted


def fail() -> None:
    raise LookupError("a defect of the view")


@pytest.fixture
def alice(alice: Caller) -> Caller:
    return log_in(alice)


@pytest.mark.parametrize("path", ["/decorated/", "/decorated-class/", "/leased/", "/async/", "/async-class/"])
def test_a7_82_simultaneous_duplicates_execute_once(alice: Caller, path: str) -> None:
    key, together = new_key(), Barrier(DUPLICATES)

    def duplicate() -> Any:
        together.wait(PATIENCE)
        return alice.post(path, key=key)

    with other_sessions() as start:
        answers = [future.result(PATIENCE) for future in [start(duplicate) for _ in range(DUPLICATES)]]
    done = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert [answer.has_header("Idempotent-Replayed") for answer in done].count(False) == 1
    assert len({answer.content for answer in done}) == 1
    assert rows() == (1, 1)


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("path", ["/decorated/", "/decorated-class/"])
@pytest.mark.parametrize("moment", ["before write", "after write"])
def test_a7_84_an_interruption_leaves_neither_effect_nor_record(
    alice: Caller, moments: Moments, moment: str, path: str, atomic: bool
) -> None:
    key = new_key()
    moments.once_at(moment, interrupt)
    with atomic_requests(atomic):
        with pytest.raises(Interrupted):
            alice.post(path, key=key)
        assert rows() == (0, 0)
        retry = alice.post(path, key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))


def test_a7_84_a_failure_after_a_commit_of_an_asynchronous_view_does_not_repeat_it(
    alice: Caller, moments: Moments
) -> None:
    key = new_key()
    moments.once_at("after commit", fail)
    assert (alice.post("/async/", key=key).status_code, rows()) == (500, (1, 1))
    retry = alice.post("/async/", key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))
    assert retry.json()["id"] == Payment.objects.get().pk


@pytest.mark.postgresql
@pytest.mark.parametrize("atomic", [False, True])
def test_a7_85_a_failure_at_commit_is_not_a_success(alice: Caller, moments: Moments, atomic: bool) -> None:
    from rest_framework.authtoken.models import Token

    key = new_key()
    moments.once_at("after write", lambda: Token.objects.create(key="orphan", user_id=0))
    with atomic_requests(atomic):
        assert (alice.post("/decorated/", key=key).status_code, rows()) == (500, (0, 0))
        retry = alice.post("/decorated/", key=key)
    assert (retry.status_code, retry.has_header("Idempotent-Replayed"), rows()) == (201, False, (1, 1))


@pytest.mark.parametrize("atomic", [False, True])
def test_a7_86_a_template_is_rendered_before_the_commit(alice: Caller, moments: Moments, atomic: bool) -> None:
    seen: list[Any] = []
    moments.at("render", lambda: seen.append((connection.in_atomic_block, rows(), seen_from_outside(rows))))
    with atomic_requests(atomic):
        answer = alice.post("/templated/", key=new_key())
    assert (answer.content, seen) == (b"payments: 1", [(True, (1, 0), (0, 0))])


@pytest.mark.parametrize(("path", "left"), [("/templated/", (0, 0)), ("/atemplated/", (1, 1))])
def test_a7_86_a_render_error_is_not_kept(alice: Caller, moments: Moments, path: str, left: tuple[int, int]) -> None:
    key = new_key()
    moments.once_at("render", fail)
    assert (alice.post(path, key=key).status_code, rows()) == (500, left)
    retry = alice.post(path, key=key)
    assert (retry.status_code, retry.content, rows()) == (200, b"payments: 1", (1, 1))


def test_a7_87_hooks_on_commit_run_for_the_executing_request_alone(alice: Caller, moments: Moments) -> None:
    key, mails = new_key(), []
    moments.at("before write", lambda: transaction.on_commit(lambda: mails.append(rows())) and None)
    assert [alice.post("/decorated/", key=key).status_code for _ in range(2)] == [201, 201]
    assert mails == [(1, 1)]


@pytest.mark.parametrize("client", [None, AsgiClient], ids=["wsgi", "asgi"])
@pytest.mark.parametrize(
    ("path", "pattern"),
    [("/mixed/", "mixed"), ("/through-a-mixin/", "through-a-mixin"), ("/decorated/", "decorated"), ("/nesting/", "*")],
)
def test_a7_97_nested_enrolment_claims_once(alice: Caller, path: str, pattern: str, client: Any, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY_ENROLLED = {pattern: Policy(required=True)}
    log_in(alice, client and client())
    key = new_key()
    first = alice.post(path, {"amount": 3}, key=key)
    assert (first.status_code, rows()) == (201, (1, 1))
    assert Record.objects.get().operation == f"POST {path.strip('/')}"
    again = alice.post(path, {"amount": 3}, key=key)
    assert (again.status_code, again.content, rows()) == (201, first.content, (1, 1))
    assert again["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("path", ["/async/", "/async-class/", "/async-lease/", "/async-scoped/"])
@pytest.mark.parametrize("client", [None, AsgiClient], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("atomic", [False, True])
def test_a7_98_asynchronous_views_run_once_by_either_handler(
    alice: Caller, path: str, client: Any, atomic: bool
) -> None:
    log_in(alice, client and client())
    with atomic_requests(atomic):
        assert_runs_once(alice, path)


def test_a7_98_an_asynchronous_view_holds_a_lease_whatever_its_policy_claims(alice: Caller, moments: Moments) -> None:
    seen: list[Any] = []
    moments.at("before write", lambda: seen.append(seen_from_outside(lambda: Record.objects.values().get())))
    assert alice.post("/async-lease/", key=new_key()).status_code == 201
    (record,) = seen
    assert record["status"] == "in_progress"
    assert (record["lease_expires_at"] - record["created_at"]).total_seconds() == pytest.approx(1, abs=0.01)


def test_a7_98_a_duplicate_of_an_asynchronous_view_is_refused_and_a_mismatch_told(
    alice: Caller, moments: Moments
) -> None:
    key, gate = new_key(), Gate()
    moments.at("before write", gate)
    with other_sessions() as start:
        first = start(alice.post, "/async/", key=key)
        gate.wait_until_reached()
        refused = [alice.post("/async/", body, key=key).json()["code"] for body in ({}, {"amount": 4})]
        gate.open()
        assert first.result(PATIENCE).status_code == 201
    assert (refused, rows()) == (["in-progress", "key-reused"], (1, 1))


class HangingUp:
    """An ASGI connection whose client goes away when it is told to."""

    def __init__(self, caller: Caller, path: str, key: str) -> None:
        token, session = "t" * 32, caller.client.cookies["sessionid"].value
        self._body = [{"type": "http.request", "body": b"{}", "more_body": False}]
        self._gone = asyncio.Event()
        cookie = f"sessionid={session}; csrftoken={token}"
        headers = {"content-type": "application/json", "idempotency-key": key, "cookie": cookie, "x-csrftoken": token}
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        if self._body:
            return self._body.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def hang_up(self) -> None:
        self._gone.set()


@pytest.mark.parametrize("path", ["/async/", "/async-bare/"])
@pytest.mark.parametrize("patient", [True, False], ids=["the server waits", "the server does not wait"])
def test_a7_98_a_cancelled_request_is_carried_out_and_its_outcome_kept(
    alice: Caller, moments: Moments, path: str, patient: bool, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY_ENROLLED = {"async-bare": Policy()}
    key, gate = new_key(), Gate()
    moments.at("before write", gate)

    def is_done() -> bool:
        return seen_from_outside(lambda: Record.objects.filter(status="completed").exists())

    @async_to_sync
    async def exchange() -> list[Any]:
        client = HangingUp(alice, path, key)
        serving = asyncio.ensure_future(ASGIHandler()(client.scope, client.receive, client.send))
        await asyncio.to_thread(gate.wait_until_reached)
        client.hang_up()
        while not async_exchange._running:
            await asyncio.sleep(0.001)
        if not patient:
            serving.cancel()
        gate.open()
        with suppress(asyncio.CancelledError):  # which Django 6.1 passes on to the server
            await serving
        if patient:
            assert await asyncio.to_thread(is_done)
        await asyncio.to_thread(eventually, is_done, "the end of a run that nobody waits for")
        return client.sent

    assert exchange() == []
    retry = alice.post(path, key=key)
    assert (retry.status_code, retry["Idempotent-Replayed"], rows()) == (201, "true", (1, 1))

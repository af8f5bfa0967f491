"""A11: in front of plain views too, whoever asks is checked before a key is looked up."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_idempotency import Policy
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.conformance.callers_plain import MIDDLEWARE, AsgiClient, log_in
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_plain")


@pytest.fixture
def alice(alice: Caller, settings: Any) -> Caller:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY_ENROLLED = {"bare*": Policy(), "async-bare": Policy()}
    return log_in(alice)


def grant(caller: Caller) -> None:
    caller.user.user_permissions.add(Permission.objects.get(codename="add_payment"))


def revoke(caller: Caller) -> None:
    caller.user.user_permissions.clear()


def looked_up(queries: CaptureQueriesContext) -> bool:
    return any(Record._meta.db_table in query["sql"] for query in queries.captured_queries)


PATHS = ["/decorated/", "/decorated-class/", "/async/", "/async-class/", "/bare/", "/async-bare/"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("client", [None, AsgiClient], ids=["wsgi", "asgi"])
def test_a2_19_nobody_gets_nothing(alice: Caller, bob: Caller, path: str, client: Any) -> None:
    key = new_key()
    first = log_in(alice, client and client()).post(path, key=key)
    bob.client = client() if client else Client(raise_request_exception=False)
    refused = bob.post(path, key=key)
    assert (first.status_code, refused.status_code, rows()) == (201, 403, (1, 1))
    assert first.json()["nonce"] not in refused.content.decode()
    assert bob.post(path, key=new_key()).status_code == 403
    assert rows() == (1, 1)


@pytest.mark.parametrize("path", PATHS)
def test_a2_18_two_users_do_not_share_keys(alice: Caller, bob: Caller, path: str) -> None:
    key = new_key()
    first, second = alice.post(path, key=key), log_in(bob).post(path, key=key)
    assert (first.status_code, second.status_code, rows()) == (201, 201, (2, 2))
    assert first.json()["id"] != second.json()["id"]


def test_a2_24_the_arguments_of_a_route_count(alice: Caller) -> None:
    key = new_key()
    assert [alice.post(f"/orders/{order}/", key=key).status_code for order in (1, 2, 1)] == [201, 422, 201]
    assert rows() == (1, 1)


def test_a11_123_who_lost_a_permission_gets_no_replay_where_it_is_asked_outside(alice: Caller) -> None:
    key = new_key()
    assert (alice.post("/permitted/", key=key).status_code, rows()) == (403, (0, 0))
    grant(alice)
    assert [alice.post("/permitted/", key=key).status_code for _ in range(2)] == [201, 201]
    revoke(alice)
    with CaptureQueriesContext(connection) as queries:
        assert alice.post("/permitted/", key=key).status_code == 403
    assert not looked_up(queries)


def test_a11_123_decorators_of_a_view_that_the_middleware_enrols_are_not_asked_for_a_replay(alice: Caller) -> None:
    key = new_key()
    grant(alice)
    first = alice.post("/bare-permitted/", key=key)
    revoke(alice)
    again = alice.post("/bare-permitted/", key=key)
    assert (again.status_code, again.content) == (201, first.content)  # as documented: use may_replay


@pytest.mark.parametrize("client", [None, AsgiClient], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("path", ["/judged/", "/async-judged/"])
def test_a11_124_a_policy_is_asked_before_each_replay(alice: Caller, path: str, client: Any) -> None:
    log_in(alice, client and client())
    key = new_key()
    first = alice.post(path, key=key)
    refused = alice.post(path, key=key)
    assert (first.status_code, refused.status_code) == (201, 403)
    assert first.json()["nonce"] not in refused.content.decode()
    grant(alice)
    again = alice.post(path, key=key)
    assert (again.content, again["Idempotent-Replayed"], rows()) == (first.content, "true", (1, 1))


@pytest.mark.parametrize("path", ["/judged-stream/", "/async-judged-stream/"])
def test_a11_124_a_policy_is_asked_before_a_problem_that_tells_where_the_outcome_is(alice: Caller, path: str) -> None:
    key = new_key()
    assert alice.post(path, key=key).status_code == 200
    refused = alice.post(path, key=key)
    assert (refused.status_code, refused.has_header("Location")) == (403, False)
    grant(alice)
    told = alice.post(path, key=key)
    assert (told.status_code, told["Location"]) == (409, "/payments/")


@pytest.mark.parametrize("path", PATHS)
def test_a11_125_csrf_is_checked_before_the_look_up(alice: Caller, path: str) -> None:
    key = new_key()
    first = alice.post(path, key=key)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice.user)
    with CaptureQueriesContext(connection) as queries:
        refused = strict.post(path, "{}", content_type="application/json", headers={"Idempotency-Key": key})
    assert (refused.status_code, looked_up(queries)) == (403, False)
    assert first.json()["nonce"] not in refused.content.decode()
    strict.cookies["csrftoken"] = token = "t" * 32
    headers = {"Idempotency-Key": key, "X-CSRFToken": token}
    again = strict.post(path, "{}", content_type="application/json", headers=headers)
    assert (again.status_code, again.content) == (201, first.content)

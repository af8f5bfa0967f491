"""A4: which answers of plain views are kept, and what becomes of those that are not."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import AsyncClient, Client

from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.conformance.callers_plain import AsgiClient, assert_runs_once, log_in
from tests.records import rows

pytestmark = pytest.mark.urls("tests.conformance.urls_plain")


@pytest.fixture
def alice(alice: Caller) -> Caller:
    return log_in(alice)


@pytest.mark.parametrize(("path", "status"), [("/conflict/", 409), ("/redirected/", 302), ("/templated/", 200)])
@pytest.mark.parametrize("prefix", ["/", "/a"])
def test_a4_47_what_a_view_returns_is_kept(alice: Caller, prefix: str, path: str, status: int) -> None:
    assert_runs_once(alice, prefix + path[1:], status=status)


@pytest.mark.parametrize(("path", "status"), [("/missing/", 404), ("/forbidden/", 403), ("/broken/", 500)])
def test_a4_53_what_a_view_raises_is_rolled_back_and_answered_by_django(alice: Caller, path: str, status: int) -> None:
    key = new_key()
    answers = [alice.post(path, key=key) for _ in range(2)]
    assert [(answer.status_code, answer.get("Idempotent-Replayed")) for answer in answers] == [(status, None)] * 2
    assert rows() == (0, 0)


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("path", ["/broken/", "/abroken/"])
def test_a4_56_the_error_of_a_view_reaches_django_as_it_is(alice: Caller, client: Any, path: str) -> None:
    from asgiref.sync import async_to_sync

    own = client()
    own.force_login(alice.user)
    post = async_to_sync(own.post) if client is AsyncClient else own.post
    with pytest.raises(LookupError, match="a defect of the view"):
        post(path, headers={"Idempotency-Key": new_key()})


@pytest.mark.parametrize("path", ["/broken/", "/unavailable/"])
def test_a4_54_a_failure_leaves_nothing(alice: Caller, path: str) -> None:
    assert alice.post(path, key=new_key()).status_code >= 500
    assert rows() == (0, 0)


def test_a4_54_a_view_that_returns_no_response_is_a_defect_and_rolls_back(alice: Caller) -> None:
    assert (alice.post("/nothing/", key=new_key()).status_code, rows()) == (500, (0, 0))


@pytest.mark.parametrize("client", [None, AsgiClient])
@pytest.mark.parametrize(("path", "effects"), [("/raised-missing/", 0), ("/araised-missing/", 1)])
def test_a4_58_a_refusal_that_was_raised_is_kept_where_the_policy_says_so(
    alice: Caller, path: str, effects: int, client: Any
) -> None:
    log_in(alice, client and client())
    key = new_key()
    first, again = (alice.post(path, key=key) for _ in range(2))
    assert (first.status_code, again.status_code, again["Idempotent-Replayed"]) == (404, 404, "true")
    assert again.content == first.content
    assert rows() == (effects, 1)  # what an asynchronous view has committed cannot be taken back


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("path", "status"), [("/raised-forbidden/", 403), ("/raised-broken/", 500)])
def test_a4_52_answers_about_the_moment_are_not_kept_even_so(
    alice: Caller, path: str, status: int, debug: bool, settings: Any
) -> None:
    settings.DEBUG = debug
    assert (alice.post(path, key=new_key()).status_code, rows()) == (status, (0, 0))


@pytest.mark.parametrize(
    ("path", "status", "left"),
    [
        ("/careful-missing/", 404, None),
        ("/acareful-missing/", 404, "released"),
        ("/careful-broken/", 500, "unknown"),
        ("/acareful-broken/", 500, "unknown"),
        ("/careful-unavailable/", 503, "unknown"),
    ],
)
def test_a4_55_under_a_careful_lease_a_refusal_is_no_crash(
    alice: Caller, path: str, status: int, left: str | None
) -> None:
    key = new_key()
    assert alice.post(path, key=key).status_code == status
    assert Record.objects.values_list("status", flat=True).first() == left
    retry = alice.post(path, key=key)
    if left == "unknown":
        assert (retry.status_code, retry.json()["code"]) == (409, "outcome-unknown")
    else:
        assert retry.status_code == status


@pytest.mark.parametrize("status", ["400", "200"])
def test_a4_54_what_a_view_has_rolled_back_itself_is_not_kept(alice: Caller, status: str) -> None:
    key, headers = new_key(), {"X-Status": status}
    answers = [alice.post("/undone/", key=key, headers=headers) for _ in range(2)]
    assert [(answer.status_code, answer.get("Idempotent-Replayed")) for answer in answers] == [(int(status), None)] * 2
    assert rows() == (0, 0)


@pytest.mark.parametrize(("status", "records"), [("400", 1), ("200", 0)])
def test_a4_58_a_refusal_that_a_view_has_rolled_back_is_kept_where_the_policy_says_so(
    alice: Caller, status: str, records: int
) -> None:
    key, headers = new_key(), {"X-Status": status}
    answers = [alice.post("/raised-undone/", key=key, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [int(status)] * 2
    assert (answers[1].has_header("Idempotent-Replayed"), rows()) == (bool(records), (0, records))


@pytest.mark.parametrize("path", ["/streamed/", "/astreamed/"])
def test_a5_72_a_stream_leaves_a_tombstone(alice: Caller, path: str) -> None:
    key = new_key()
    first = alice.post(path, key=key)
    assert (first.status_code, b"".join(first.streaming_content)) == (200, b"ab")
    again = alice.post(path, key=key)
    assert (again.status_code, again.json()["code"], again["Location"]) == (
        409,
        "response-not-replayable",
        "/payments/",
    )
    assert rows() == (1, 1)

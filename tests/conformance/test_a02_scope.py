"""A2: scopes keep callers and operations apart."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from rest_framework.authtoken.models import Token

from django_idempotency.core.keys import IdempotencyKey
from django_idempotency.core.records import Claim
from django_idempotency.models import Record
from django_idempotency.stores.postgresql import PostgreSQL
from django_idempotency.stores.sqlite import SQLite
from tests.callers import Caller, new_key
from tests.conformance import views_requests
from tests.conformance.views_requests import runs
from tests.models import Payment

pytestmark = pytest.mark.urls("tests.conformance.urls_requests")


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    runs.clear()


def assert_replayed(first: Any, again: Any) -> None:
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (1, 1, 1)


def assert_both_ran(first: Any, second: Any) -> None:
    assert (first.status_code, second.status_code) == (201, 201)
    assert "Idempotent-Replayed" not in second
    assert first.json()["id"] != second.json()["id"]
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (2, 2, 2)


def assert_mismatch(first: Any, second: Any) -> None:
    assert (first.status_code, second.status_code, second.json()["code"]) == (201, 422, "key-reused")
    assert (len(runs), Payment.objects.count(), Record.objects.count()) == (1, 1, 1)


def test_a2_18_two_principals_with_one_key_and_body_both_run(alice: Caller, bob: Caller) -> None:
    key = new_key()
    first, second = (caller.post("/pay/", {"amount": 1}, key=key) for caller in (alice, bob))
    assert_both_ran(first, second)
    for caller, own in ((alice, first), (bob, second)):
        again = caller.post("/pay/", {"amount": 1}, key=key)
        assert (again.content, again.json()["user"]) == (own.content, caller.user.username)
    assert len(runs) == 2


def test_a2_18_a_foreign_key_is_neither_a_mismatch_nor_a_conflict(alice: Caller, bob: Caller) -> None:
    key = new_key()
    alice.post("/pay/", {"amount": 1}, key=key)
    assert bob.post("/pay/", {"amount": 2}, key=key).status_code == 201


@pytest.mark.parametrize("authorization", ["", "Token wrong", "Bearer x"])
def test_a2_19_an_anonymous_request_with_a_known_key_gets_no_stored_bytes(alice: Caller, authorization: str) -> None:
    key = new_key()
    first = alice.post("/pay/", {"amount": 1}, key=key)
    answer = alice.post("/pay/", {"amount": 1}, key=key, headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert not {"Idempotent-Replayed", "Idempotency-Expires"} & set(answer.headers)
    assert f'"id":{first.json()["id"]}' not in answer.content.decode()
    assert len(runs) == 1


def test_a2_19_an_anonymous_request_cannot_tell_a_known_key_from_an_unknown_one(alice: Caller) -> None:
    key, anonymous = new_key(), {"Authorization": ""}
    before = alice.post("/pay/", {"amount": 1}, key=key, headers=anonymous)
    alice.post("/pay/", {"amount": 1}, key=key)
    same = alice.post("/pay/", {"amount": 1}, key=key, headers=anonymous)
    other = alice.post("/pay/", {"amount": 2}, key=key, headers=anonymous)
    assert before.content == same.content == other.content
    assert before.headers == same.headers == other.headers


@pytest.mark.parametrize(("path", "status"), [("/open/", 401), ("/nobody/", 403)])
@pytest.mark.parametrize("kind", ["valid", "second"])
def test_a2_20_without_an_identity_a_key_is_refused(alice: Caller, path: str, status: int, kind: str) -> None:
    anonymous, key = {"Authorization": ""}, new_key()
    if kind == "second":
        alice.post("/pay/", key=key)
        runs.clear()
    answer = alice.post(path, key=key, headers=anonymous)
    assert answer.status_code == status
    assert (runs, Record.objects.filter(operation__contains=path.strip("/")).count()) == ([], 0)


def test_a2_20_without_a_key_an_open_view_serves_all(alice: Caller) -> None:
    answer = alice.post("/open/", headers={"Authorization": ""})
    assert (answer.status_code, answer["Idempotency-Status"]) == (201, "unprotected")


def test_a2_20_an_open_view_protects_the_callers_that_it_knows(alice: Caller) -> None:
    key = new_key()
    assert_replayed(alice.post("/open/", key=key), alice.post("/open/", key=key))


@pytest.mark.parametrize("path", ["/empty-scope/", "/empty-scopes/", "/no-scope/"])
def test_a2_20_an_empty_scope_is_no_identity(alice: Caller, bob: Caller, path: str) -> None:
    key = new_key()
    answers = [caller.post(path, key=key) for caller in (alice, bob)]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert (runs, Payment.objects.count(), Record.objects.count()) == ([], 0, 0)


@pytest.mark.parametrize("claim", ["X-User", "X-User-Id", "X-Tenant", "X-Forwarded-User", "X-Forwarded-For", "From"])
@pytest.mark.parametrize("path", ["/pay/", "/tenants/"])
def test_a2_21_a_claim_of_the_caller_is_not_its_scope(alice: Caller, bob: Caller, claim: str, path: str) -> None:
    key = new_key()
    first = alice.post(path, {"user": "alice", "tenant": ""}, key=key)
    for value in (alice.user.username, str(alice.user.pk), "acme"):
        own = alice.post(path, {"user": "alice", "tenant": ""}, key=key, headers={claim: value})
        assert own.content == first.content
        foreign = bob.post(path, {"user": "alice", "tenant": ""}, key=key, headers={claim: value})
        assert foreign.json()["user"] == "bob"
    assert (len(runs), Record.objects.count()) == (2, 2)


def test_a2_21_the_scope_is_what_the_server_looks_up_for_the_authenticated_user(alice: Caller) -> None:
    key = new_key()
    for tenant in ("acme", "globex"):
        alice.user.first_name = tenant
        alice.user.save()
        assert alice.post("/tenants/", key=key).status_code == 201
        assert alice.post("/tenants/", key=key)["Idempotent-Replayed"] == "true"
    scopes = [f"{tenant} / user:{alice.user.pk}" for tenant in ("acme", "globex")]
    assert list(Record.objects.order_by("id").values_list("scope", flat=True)) == scopes
    assert len(runs) == 2


def test_a2_21_nobody_is_asked_for_a_scope_before_authentication(
    alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        views_requests.PaymentView, "get_idempotency_scope", lambda view, request: asked.append(request) or "anybody"
    )
    assert alice.post("/pay/", key=new_key(), headers={"Authorization": "Token wrong"}).status_code == 401
    assert asked == []
    assert alice.post("/pay/", key=new_key()).status_code == 201
    assert [request.user for request in asked] == [alice.user]


def test_a2_22_a_rotated_token_does_not_change_the_scope(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/pay/", key=key)
    alice.token.delete()
    alice.token = Token.objects.create(user=alice.user)
    assert_replayed(first, alice.post("/pay/", key=key))


def test_a2_22_nor_does_a_renamed_user(alice: Caller) -> None:
    key = new_key()
    first = alice.post("/pay/", key=key)
    alice.user.username = "alicia"
    alice.user.save()
    assert_replayed(first, alice.post("/pay/", key=key))


def test_a2_23_a_key_on_another_route_is_independent(alice: Caller) -> None:
    key = new_key()
    assert_both_ran(alice.post("/pay/", key=key), alice.post("/refund/", key=key))


def test_a2_23_a_key_with_another_method_is_independent(alice: Caller) -> None:
    key = new_key()
    assert_both_ran(alice.send("POST", "/every-method/", key=key), alice.send("PATCH", "/every-method/", key=key))


@pytest.mark.parametrize("paths", [("/orders/1/pay/", "/orders/2/pay/"), ("/invoices/1/pay/", "/invoices/2/pay/")])
def test_a2_24_route_arguments_are_part_of_the_request(alice: Caller, paths: tuple[str, str]) -> None:
    key = new_key()
    first = alice.post(paths[0], key=key)
    assert_mismatch(first, alice.post(paths[1], key=key))
    assert_replayed(first, alice.post(paths[0], key=key))


@pytest.mark.parametrize(("one", "other"), [("/unnamed", "/unnamed/"), ("/unnamed/", "/unnamed")])
def test_a2_25_routes_that_differ_by_a_slash_are_two_operations(alice: Caller, one: str, other: str) -> None:
    key = new_key()
    assert_both_ran(alice.post(one, key=key), alice.post(other, key=key))


@pytest.mark.parametrize(("one", "other"), [("/alike", "/alike/"), ("/alike/", "/alike")])
def test_a2_25_nor_is_one_a_replay_of_the_other_where_both_have_one_name(alice: Caller, one: str, other: str) -> None:
    key = new_key()
    assert_mismatch(alice.post(one, key=key), alice.post(other, key=key))


def test_a2_25_paths_that_one_route_merges_are_one_operation(alice: Caller) -> None:
    key = new_key()
    assert_replayed(alice.post("/merged", key=key), alice.post("/merged/", key=key))


@pytest.mark.parametrize(("path", "status"), [("/pay", 301), ("//pay/", 404), ("/pay//", 404), ("/PAY/", 404)])
def test_a2_25_a_path_without_a_route_is_never_answered_from_a_record(alice: Caller, path: str, status: int) -> None:
    key = new_key()
    alice.post("/pay/", key=key)
    answer = alice.client.generic(
        "POST", "http://testserver" + path, "{}", content_type="application/json", headers=alice_headers(alice, key)
    )
    assert answer.status_code == status
    assert "Idempotent-Replayed" not in answer
    assert (len(runs), Record.objects.count()) == (1, 1)


def alice_headers(caller: Caller, key: str) -> dict[str, str]:
    return {"Authorization": f"Token {caller.token.key}", "Idempotency-Key": key}


def test_a2_26_a_version_in_a_namespace_is_another_operation(alice: Caller) -> None:
    key = new_key()
    assert_both_ran(alice.post("/v1/payments/", key=key), alice.post("/v2/payments/", key=key))


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("/by-accept/", {"Accept": "application/json; version=1"}, {"Accept": "application/json; version=2"}),
        ("/by-accept/", {"Accept": "application/json"}, {"Accept": "application/json; version=2"}),
        ("/by-header/", {"API-Version": "1"}, {"API-Version": "2"}),
    ],
)
def test_a2_26_a_version_in_a_header_is_part_of_the_request(
    alice: Caller, path: str, one: dict[str, str], other: dict[str, str]
) -> None:
    key = new_key()
    first = alice.post(path, key=key, headers=one)
    assert_mismatch(first, alice.post(path, key=key, headers=other))
    assert_replayed(first, alice.post(path, key=key, headers=one))


def test_a2_26_routes_included_twice_without_a_namespace_are_not_replays_of_each_other(alice: Caller) -> None:
    key = new_key()
    assert_mismatch(alice.post("/first/payments/", key=key), alice.post("/second/payments/", key=key))


def test_a2_27_parts_that_run_into_each_other_are_two_scopes(alice: Caller, bob: Caller) -> None:
    for caller, names in ((alice, ("ab", "c")), (bob, ("a", "bc"))):
        caller.user.first_name, caller.user.last_name = names
        caller.user.save()
    key = new_key()
    assert_both_ran(alice.post("/names/", key=key), bob.post("/names/", key=key))


def test_a2_27_no_two_splits_of_one_text_share_a_digest() -> None:
    splits = [
        ("POST pay", "key", ("ab", "c")),
        ("POST pay", "key", ("a", "bc")),
        ("POST pay", "key", ("abc",)),
        ("POST pay", "key", ("abc", "")),
        ("POST pay", "key", ("", "abc")),
        ("POST pay", "keyab", ("c",)),
        ("POST paykey", "", ("abc",)),
        ("POST pa", "ykey", ("abc",)),
        ("POST pay", "key", ("ab / c",)),
    ]
    digests = {
        IdempotencyKey(operation=operation, value=value, scope=scope).digest for operation, value, scope in splits
    }
    assert len(digests) == len(splits)


def test_a2_28_the_database_refuses_a_second_row_of_one_scope_and_key(alice: Caller) -> None:
    alice.post("/pay/", key=new_key())
    record = Record.objects.get()
    record.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        record.save(force_insert=True)
    assert Record.objects.count() == 1


def test_a2_28_a_claim_that_looks_nothing_up_still_cannot_commit_twice(
    alice: Caller, bob: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = {"postgresql": PostgreSQL, "sqlite": SQLite}[connection.vendor]
    monkeypatch.setattr(dialect, "recall", lambda *args: None)
    monkeypatch.setattr(dialect, "claim", lambda self, connection, operation: Claim(operation=operation))
    key = new_key()
    first = alice.post("/pay/", key=key)
    second = alice.post("/pay/", key=key)
    assert (first.status_code, second.status_code, second.json()["code"]) == (201, 409, "in-progress")
    assert len(runs) > 1, "the view was to run again, and its row to vanish"
    assert (Payment.objects.count(), Record.objects.count()) == (1, 1)
    assert bob.post("/pay/", key=key).status_code == 201
    assert (Payment.objects.count(), Record.objects.count()) == (2, 2)

"""A11: bodies at rest."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from django.http import HttpResponse, HttpResponseBase
from django.test import AsyncClient
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from django_idempotency.conf import settings as ours
from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.campaigns.redis_faults import patiently_cached
from tests.conformance.urls_protection import SECRET, SteppingView
from tests.conformance.views_responses import created, scripted
from tests.models import Payment
from tests.stored import columns, in_redis

pytestmark = pytest.mark.urls("tests.conformance.urls_protection")

CANARY = "canary-of-the-response"
REDIS_ALONE = {"default": {"BACKEND": "django_idempotency.stores.redis.RedisStore"}}
ENCRYPTED = pytest.mark.parametrize("path", ["/encrypted/", "/leased/"])


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with patiently_cached() as client:
        yield client


def secretive(request: Request) -> HttpResponseBase:
    body = f'{{"token": "{CANARY}"}}'
    return HttpResponse(body, status=201, content_type="application/json", headers={"Location": f"/{CANARY}/"})


def is_replay_of(again: Any, first: Any) -> bool:
    assert again["Idempotent-Replayed"] == "true"
    told = ("Content-Type", "Location")
    return (again.status_code, again.content, *(again[name] for name in told)) == (
        first.status_code,
        first.content,
        *(first[name] for name in told),
    )


def refused(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@ENCRYPTED
def test_a11_126_encrypted_outcomes_replay_byte_for_byte(alice: Caller, path: str) -> None:
    key = new_key()
    with scripted() as script:
        first, again = (alice.post(path, key=key) for _ in range(2))
    assert is_replay_of(again, first)
    assert script.calls == Payment.objects.count() == 1
    record = Record.objects.get()
    assert (record.sealed_with, record.response_headers) == (ours.vault.key_id, [])


@ENCRYPTED
def test_a11_126_no_column_and_no_log_record_holds_what_was_encrypted(
    alice: Caller, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = new_key()
    with scripted(secretive):
        assert CANARY.encode() in alice.post(path, key=key).content
        assert CANARY.encode() in alice.post(path, key=key).content
        assert CANARY.encode() not in columns()
        alice.post("/full/", key=new_key())
    assert CANARY.encode() in columns()  # the scan finds what is there
    assert not [record for record in caplog.records if CANARY in f"{record.getMessage()} {record.__dict__!r}"]


@ENCRYPTED
def test_a11_126_the_copy_in_redis_is_encrypted_too(alice: Caller, client: redis.Redis, path: str) -> None:
    key = new_key()
    with scripted(secretive) as script:
        first = alice.post(path, key=key)
        stored = in_redis(client)
        Record.objects.all().delete()  # the replay comes from Redis
        assert is_replay_of(alice.post(path, key=key), first)
        alice.post("/full/", key=new_key())
    assert script.calls == 2
    assert ours.vault.key_id.encode() in stored
    assert CANARY.encode() not in stored
    assert CANARY.encode() in in_redis(client)


@ENCRYPTED
def test_a11_126_redis_alone_keeps_it_encrypted(alice: Caller, client: redis.Redis, path: str, settings: Any) -> None:
    settings.IDEMPOTENCY_STORES = REDIS_ALONE
    key = new_key()
    with scripted(secretive) as script:
        first, again = (alice.post(path, key=key) for _ in range(2))
    assert is_replay_of(again, first)
    assert script.calls == 1
    assert client.keys("*")
    assert CANARY.encode() not in in_redis(client)


@pytest.mark.django_db(transaction=True)
def test_a11_126_an_asynchronous_view_keeps_it_encrypted() -> None:
    key = {"Idempotency-Key": f'"{new_key()}"'}
    first, again = (async_to_sync(AsyncClient().post)("/async/", headers=key) for _ in range(2))
    assert is_replay_of(again, first)
    assert SECRET.encode() in first.content
    assert SECRET.encode() not in columns()


def test_a11_126_an_answer_that_was_raised_is_kept_encrypted(alice: Caller) -> None:
    def refuse(request: Request) -> HttpResponseBase:
        raise ValidationError({"card": CANARY})

    key = new_key()
    with scripted(refuse) as script:
        first, again = (alice.post("/raised/", key=key) for _ in range(2))
    assert (again.status_code, again.content, script.calls) == (400, first.content, 1)
    assert CANARY.encode() not in columns()


def test_a11_126_a_tombstone_tells_its_location_and_stores_it_encrypted(alice: Caller) -> None:
    key = new_key()
    with scripted(secretive) as script:
        first, again = (alice.post("/small/", key=key) for _ in range(2))
    assert refused(again) == (409, "response-not-replayable")
    assert (again["Location"], script.calls) == (first["Location"], 1)
    assert CANARY.encode() not in columns()


def test_a11_126_the_results_of_steps_are_encrypted_and_resumed(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    monkeypatch.setattr(SteppingView, "calls", 0)
    monkeypatch.setattr(SteppingView, "breaks_off", True)
    assert alice.post("/stepping/", key=key).status_code == 500
    assert b"token" in columns()
    assert SECRET.encode() not in columns()
    monkeypatch.setattr(SteppingView, "breaks_off", False)
    assert alice.post("/stepping/", key=key).json() == {"token": SECRET}
    assert SteppingView.calls == 1
    assert SECRET.encode() not in columns()


def swap_two(path: str, alice: Caller) -> tuple[str, str]:
    """Keep two outcomes under keys of their own, and exchange what is encrypted."""
    keys = new_key(), new_key()
    for key in keys:
        alice.post(path, key=key)
    one, other = (Record.objects.get(key=key) for key in keys)
    one.response_body, other.response_body = other.response_body, one.response_body
    one.save()
    other.save()
    return keys


@ENCRYPTED
def test_a11_126_an_outcome_that_was_moved_to_another_record_is_an_error_and_no_answer(
    alice: Caller, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted() as script:
        keys = swap_two(path, alice)
        answers = [alice.post(path, key=key) for key in keys]
        assert [refused(answer) for answer in answers] == [(503, "outcome-unreadable")] * 2
        assert script.calls == Payment.objects.count() == 2
    assert "it was changed, or moved here from another operation" in caplog.text
    assert "nonce" not in "".join(answer.content.decode() for answer in answers)


@pytest.mark.parametrize("field", ["response_body", "response_status", "sealed_with"])
def test_a11_126_whatever_is_changed_in_the_database_is_an_error(alice: Caller, field: str) -> None:
    key = new_key()
    with scripted() as script:
        alice.post("/encrypted/", key=key)
        record = Record.objects.get()
        body = bytes(record.response_body)
        changed = {
            "response_body": body[:-1] + bytes([body[-1] ^ 1]),
            "response_status": 202,
            "sealed_with": "00000000",
        }
        Record.objects.update(**{field: changed[field]})
        assert refused(alice.post("/encrypted/", key=key)) == (503, "outcome-unreadable")
        Record.objects.update(**{field: getattr(record, field)})
        assert alice.post("/encrypted/", key=key).status_code == 201
    assert script.calls == 1


def test_a11_126_a_key_that_is_gone_is_an_error_until_it_is_back(
    alice: Caller, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key = new_key()
    settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("old",)
    with scripted() as script:
        first = alice.post("/encrypted/", key=key)
        settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("new",)
        again = alice.post("/encrypted/", key=key)
        assert refused(again) == (503, "outcome-unreadable")
        assert (again["Retry-After"], again["Idempotency-Should-Retry"]) == ("1", "true")
        settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("new", "old")
        assert is_replay_of(alice.post("/encrypted/", key=key), first)
    assert script.calls == 1
    assert f"the key {Record.objects.get().sealed_with} is not configured" in caplog.text


def test_a11_126_by_default_the_keys_are_those_of_django_and_its_fallbacks(alice: Caller, settings: Any) -> None:
    key, old = new_key(), settings.SECRET_KEY
    with scripted() as script:
        first = alice.post("/encrypted/", key=key)
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another secret of the tests", [old]
        assert is_replay_of(alice.post("/encrypted/", key=key), first)
        alice.post("/encrypted/", key=new_key())
    assert script.calls == 2
    assert len(set(Record.objects.values_list("sealed_with", flat=True))) == 2


def test_a11_126_another_request_under_the_key_is_refused_before_anything_is_decrypted(
    alice: Caller, settings: Any
) -> None:
    key = new_key()
    with scripted():
        alice.post("/encrypted/", {"amount": 1}, key=key)
        settings.IDEMPOTENCY_ENCRYPTION_KEYS = ("new",)
        assert refused(alice.post("/encrypted/", {"amount": 2}, key=key)) == (422, "key-reused")


def test_a11_126_nothing_runs_where_nothing_can_encrypt(alice: Caller, settings: Any) -> None:
    settings.IDEMPOTENCY_CIPHER = "nowhere.at.all"
    with scripted() as script:
        assert alice.post("/encrypted/", key=new_key()).status_code == 500
        assert alice.post("/leased/", key=new_key()).status_code == 500
        assert alice.post("/full/", key=new_key()).status_code == 201
    assert script.calls == Payment.objects.count() == Record.objects.count() == 1


def test_a11_126_of_a_body_that_is_hashed_only_the_hash_is_kept_and_told(alice: Caller) -> None:
    key = new_key()
    with scripted(secretive) as script:
        first, again = (alice.post("/hash/", key=key) for _ in range(2))
    digest = base64.b64encode(hashlib.sha256(first.content).digest()).decode()
    assert (again.status_code, again.content, script.calls) == (201, b"", 1)
    assert again["Idempotency-Body-Digest"] == f"sha-256=:{digest}:"
    assert again["Idempotency-Status"] == "body-withheld"
    assert again["Location"] == first["Location"]
    assert "Content-Type" not in again
    assert digest.encode() in columns()
    assert b'"token"' not in columns()


def test_a11_126_a_body_that_is_not_kept_leaves_no_hash_either(alice: Caller) -> None:
    key = new_key()
    with scripted(created):
        first, again = (alice.post("/none/", key=key) for _ in range(2))
    assert (again.status_code, again.content) == (201, b"")
    assert "Idempotency-Body-Digest" not in again
    assert first.json()["nonce"].encode() not in columns()

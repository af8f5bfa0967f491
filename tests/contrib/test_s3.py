"""S3: what the service answers to conditional writes, and what becomes of it."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.files.base import ContentFile

from django_idempotency.objects import ContentAddressedStorage
from django_idempotency.objects.exceptions import CollectorRunning, ObjectContended, ObjectCorrupted
from tests.s3_servers import S3

TEXT = b"a report\n"
HEX = hashlib.sha256(TEXT).hexdigest()
NAME = f"{HEX[:2]}/{HEX[2:4]}/{HEX}"
PUT = {
    "Bucket": "b",
    "Key": NAME,
    "Body": TEXT,
    "IfNoneMatch": "*",
    "ChecksumAlgorithm": "SHA256",
    "ChecksumSHA256": b64encode(bytes.fromhex(HEX)).decode(),
    "Metadata": {"digest": f"sha256:{HEX}"},
}


@contextmanager
def answering(*answers: tuple[str, int]) -> Iterator[ContentAddressedStorage]:
    """Yield a storage whose PUTs get these answers of S3, in this order, or a success in place of an empty one."""
    from botocore.stub import Stubber

    inner = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": "b", "access_key": "a", "secret_key": "s", "region_name": "us-east-1"},
    }
    storage = ContentAddressedStorage(storage=inner)
    with Stubber(storage.writer.storage.connection.meta.client) as stub:
        for code, status in answers:
            if code:
                stub.add_client_error("put_object", code, http_status_code=status, expected_params=PUT)
            else:
                stub.add_response("put_object", {}, PUT)
        yield storage
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "BadDigest"])
def test_a_conflict_and_a_damaged_transfer_are_tried_again(code: str) -> None:
    with answering((code, 409), (code, 409), ("", 200)) as storage:
        assert storage.put(ContentFile(TEXT)).created


@pytest.mark.parametrize(
    ("code", "error"), [("ConditionalRequestConflict", ObjectContended), ("BadDigest", ObjectCorrupted)]
)
def test_they_are_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception]) -> None:
    monkeypatch.setattr("django_idempotency.contrib.s3.time.sleep", lambda seconds: None)
    with answering(*[(code, 409)] * 8) as storage, pytest.raises(error):
        storage.put(ContentFile(TEXT))


def test_any_other_error_is_the_callers() -> None:
    from botocore.exceptions import ClientError

    with answering(("AccessDenied", 403)) as storage, pytest.raises(ClientError):
        storage.put(ContentFile(TEXT))


def test_a_412_is_a_success_that_leaves_a_mark(s3: S3) -> None:
    storage = s3.storage()
    assert storage.put(ContentFile(TEXT)).created
    first = s3.keys()[NAME]
    answers: list[int] = []
    client = storage.writer.storage.connection.meta.client
    client.meta.events.register(
        "after-call.s3.PutObject", lambda http_response, **_: answers.append(http_response.status_code)
    )
    assert not storage.put(ContentFile(TEXT)).created
    assert answers == [412, 200]
    assert s3.keys()[NAME] is first
    assert set(s3.keys()) == {NAME, f"touched/{NAME}"}


def test_the_checksum_and_our_own_digest_are_kept(s3: S3) -> None:
    storage = s3.storage()
    storage.put(ContentFile(TEXT, "a.txt"))
    found = storage.writer.storage.connection.meta.client.head_object(
        Bucket=s3.bucket, Key=NAME, ChecksumMode="ENABLED"
    )
    assert found["ChecksumSHA256"] == PUT["ChecksumSHA256"]
    assert found["Metadata"] == PUT["Metadata"]


def test_large_content_is_uploaded_in_parts(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = s3.storage()
    monkeypatch.setattr(type(storage.writer), "part_size", 5 * 2**20)
    data = bytes(range(256)) * 4096 * 11
    blob = storage.put(ContentFile(data))
    assert (blob.created, blob.size) == (True, len(data))
    stored = s3.keys()[blob.name]
    assert stored.etag.strip('"').endswith("-3")
    assert stored.metadata["x-amz-meta-digest"] == blob.digest
    assert storage.verify(blob.name)
    assert not storage.put(ContentFile(data)).created
    assert s3.keys()[blob.name] is stored


def test_what_takes_longer_to_send_than_to_look_for_is_not_sent_again(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = s3.storage()
    monkeypatch.setattr(type(storage.writer), "look_size", 1000)
    sent: list[int] = []
    storage.writer.storage.connection.meta.client.meta.events.register(
        "before-call.s3.PutObject", lambda params, **_: sent.append(len(params["body"].getvalue()))
    )
    assert [storage.put(ContentFile(b"x" * 2000)).created for _ in range(2)] == [True, False]
    assert sent == [2000, 16]


def test_of_two_uploads_in_parts_the_second_finds_the_first(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, other = s3.storage(), s3.storage()
    monkeypatch.setattr(type(storage.writer), "part_size", 5 * 2**20)
    data = b"x" * (6 * 2**20)
    client = storage.writer.storage.connection.meta.client

    def rival(**_: Any) -> None:
        client.meta.events.unregister("before-call.s3.CompleteMultipartUpload", rival)
        assert other.put(ContentFile(data)).created

    client.meta.events.register("before-call.s3.CompleteMultipartUpload", rival)
    assert not storage.put(ContentFile(data)).created
    assert s3.uploads() == {}


def test_an_upload_that_breaks_off_is_aborted(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = s3.storage()
    monkeypatch.setattr(type(storage.writer), "part_size", 5 * 2**20)

    def fail(**_: Any) -> None:
        raise ConnectionResetError

    events = storage.writer.storage.connection.meta.client.meta.events
    events.register("before-call.s3.CompleteMultipartUpload", fail)
    try:
        with pytest.raises(ConnectionResetError):
            storage.put(ContentFile(b"x" * (6 * 2**20)))
    finally:
        events.unregister("before-call.s3.CompleteMultipartUpload", fail)
    assert (dict(s3.keys()), s3.uploads()) == ({}, {})


def test_objects_are_below_location_and_prefix(s3: S3) -> None:
    storage = s3.storage(s3={"location": "app/"}, prefix="reports")
    storage.put(ContentFile(TEXT))
    storage.put(ContentFile(TEXT))
    assert set(s3.keys()) == {f"app/reports/{NAME}", f"app/reports/touched/{NAME}"}
    assert [entry.name for entry in storage.writer.entries()] == [NAME]
    with storage.open(NAME) as file:
        assert file.read() == TEXT


def test_a_browser_saves_it_under_its_file_name(s3: S3) -> None:
    storage = s3.storage()
    storage.put(ContentFile(TEXT))
    query = parse_qs(urlsplit(storage.url(NAME, filename='a "b".pdf')).query)
    assert query["response-content-disposition"] == ['attachment; filename="a \\"b\\".pdf"']
    assert query["response-content-type"] == ["application/pdf"]
    assert "response-content-disposition" not in storage.url(NAME)
    public = s3.storage(s3={"custom_domain": "cdn.example.com"})
    assert public.url(NAME, filename="a.pdf") == f"https://cdn.example.com/{NAME}"


def test_the_lock_of_a_collector_that_died_is_taken_over_a_day_later(s3: S3) -> None:
    first, second = s3.storage().writer, s3.storage().writer
    with first.exclusive():
        with pytest.raises(CollectorRunning):
            second.exclusive().__enter__()
        s3.age("collector.lock", timedelta(hours=25))
        with second.exclusive():
            pass
    assert dict(s3.keys()) == {}


def test_checks_say_what_could_replace_objects(s3: S3) -> None:
    assert s3.storage().writer.check("blobs") == []
    writer = s3.storage(s3={"file_overwrite": True, "gzip": True}).writer
    assert [message.id for message in writer.check("blobs")] == ["idempotency.W072", "idempotency.W073"]

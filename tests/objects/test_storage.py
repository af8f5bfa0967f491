"""What a content-addressed storage keeps to, wherever the objects are."""

from __future__ import annotations

import hashlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage, storages
from django.test import override_settings

from django_idempotency.objects import Blob, ContentAddressedStorage
from django_idempotency.objects.exceptions import ObjectCorrupted, ObjectImmutable
from django_idempotency.signals import operation_answered
from tests.objects.conftest import Place


class Stream(io.RawIOBase):
    """Bytes that come once, without a size."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(7, len(self._rest)) if size is None or size < 0 else min(size, 7)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def test_the_same_bytes_are_stored_once_under_their_digest(
    storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    digest = hashlib.sha256(text).hexdigest()
    name = f"{digest[:2]}/{digest[2:4]}/{digest}"
    first, second = (storage.put(ContentFile(text, "a.txt")) for _ in range(2))
    assert first == Blob(name=name, digest=f"sha256:{digest}", size=len(text), created=True)
    assert second == Blob(name=name, digest=f"sha256:{digest}", size=len(text), created=False)
    assert {found for found in place.names() if not found.startswith("touched/")} == {name}
    assert place.read(name) == text


def test_it_is_opened_measured_and_verified_by_name_and_by_digest(
    storage: ContentAddressedStorage, text: bytes
) -> None:
    blob = storage.put(ContentFile(text))
    for called in (blob.name, blob.digest):
        assert storage.exists(called)
        assert storage.size(called) == len(text)
        assert storage.verify(called)
        with storage.open(called) as file:
            assert file.read() == text


def test_what_is_no_name_is_nowhere(storage: ContentAddressedStorage) -> None:
    assert not storage.exists("aa/bb/../../etc/passwd")
    assert not storage.exists("tmp/x")
    assert not storage.exists("sha256:" + "0" * 64)
    with pytest.raises(ValueError, match="neither a name nor a digest"):
        storage.open("quarantine/collected/x")
    with pytest.raises(FileNotFoundError):
        storage.open("sha256:" + "0" * 64)


@pytest.mark.parametrize("data", [b"", b"x", b"many" * 300_000], ids=["empty", "small", "large"])
def test_streams_of_unknown_size_are_taken(storage: ContentAddressedStorage, data: bytes) -> None:
    blob = storage.put(io.BytesIO(data) if len(data) > 1000 else Stream(data))
    assert blob.size == len(data)
    assert storage.verify(blob.name)


def test_a_write_that_breaks_off_leaves_nothing(storage: ContentAddressedStorage, place: Place) -> None:
    class Broken(Stream):
        def read(self, size: int = -1) -> bytes:
            if len(self._rest) < 50:
                raise ConnectionResetError
            return super().read(size)

    with pytest.raises(ConnectionResetError):
        storage.put(Broken(b"x" * 100))
    assert place.names() == set()


def test_nothing_is_deleted_or_overwritten(storage: ContentAddressedStorage, place: Place, text: bytes) -> None:
    blob = storage.put(ContentFile(text))
    with pytest.raises(ObjectImmutable):
        storage.delete(blob.name)
    for mode in ("wb", "ab", "r+b"):
        with pytest.raises(ObjectImmutable):
            storage.open(blob.name, mode)
    assert place.read(blob.name) == text


def test_part_of_an_object_is_replaced_by_the_whole(
    storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    name = storage.put(ContentFile(text)).name
    place.write(name, text[:5])
    assert storage.put(ContentFile(text)).created
    assert place.read(name) == text
    assert place.read(f"quarantine/corrupt/{name}") == text[:5]


def test_reading_can_verify(place: Place, text: bytes) -> None:
    storage = place.storage(verify_on_read=True)
    name = storage.put(ContentFile(text)).name
    with storage.open(name) as file:
        assert file.read() == text
    place.write(name, text[::-1])
    with place.storage().open(name) as file:
        assert file.read() == text[::-1]
    assert not storage.verify(name)
    with pytest.raises(ObjectCorrupted):
        storage.open(name)


def test_save_is_put(storage: ContentAddressedStorage, text: bytes) -> None:
    name = storage.save("reports/../june.pdf", ContentFile(text))
    assert name == storage.put(ContentFile(text)).name
    with pytest.raises(SuspiciousFileOperation):
        storage.save("a", ContentFile(text), max_length=20)


def test_options_change_names(place: Place, text: bytes) -> None:
    storage = place.storage(algorithm="blake2b", fanout=(3,), prefix="/reports/")
    digest = hashlib.blake2b(text).hexdigest()
    blob = storage.put(ContentFile(text))
    assert (blob.name, blob.digest) == (f"{digest[:3]}/{digest}", f"blake2b:{digest}")
    assert place.names() == {f"reports/{blob.name}"}
    assert [entry.name for entry in storage.writer.entries()] == [blob.name]


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "md5"},
        {"algorithm": "sha1"},
        {"fanout": (0,)},
        {"fanout": ("2",)},
        {"fanout": (1,) * 5},
        {"storage": {}},
        {"storage": {"BACKEND": "no.such.Storage"}},
        {"storage": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"folder": "x"}}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured):
        ContentAddressedStorage(**options).writer  # noqa: B018


def test_a_put_is_told_once_it_is_done(storage: ContentAddressedStorage, text: bytes) -> None:
    told: list[dict[str, Any]] = []

    def listen(**facts: Any) -> None:
        told.append(facts)

    operation_answered.connect(listen)
    try:
        storage.put(ContentFile(text))
        storage.put(ContentFile(text))
    finally:
        operation_answered.disconnect(listen)
    assert [(facts["layer"], facts["operation"], facts["outcome"]) for facts in told] == [
        ("objects", "blobs", "executed"),
        ("objects", "blobs", "replayed"),
    ]
    assert told[0]["digest"] == hashlib.sha256(text).digest()
    assert told[0]["sender"] is ContentAddressedStorage
    assert told[0]["duration"] > 0


def test_a_storage_can_be_another_one_of_storages(tmp_path: Path, text: bytes) -> None:
    backend = {"BACKEND": "django_idempotency.objects.ContentAddressedStorage", "OPTIONS": {"storage": "files"}}
    files = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    with override_settings(STORAGES={"blobs": backend, "files": files}):
        name = storages["blobs"].put(ContentFile(text)).name
        assert storages["blobs"].path(name) == str(tmp_path / name)
        assert storages["blobs"].get_modified_time(name).date() == storages["files"].get_modified_time(name).date()
    assert (tmp_path / name).read_bytes() == text


def test_any_other_storage_does_what_it_can(text: bytes) -> None:
    storage = ContentAddressedStorage(storage={"BACKEND": "django.core.files.storage.InMemoryStorage"}, prefix="p")
    first, second = (storage.put(Stream(text)) for _ in range(2))
    assert (first.created, second.created) == (True, False)
    assert [(entry.name, entry.size) for entry in storage.writer.entries()] == [(first.name, len(text))]
    assert storage.verify(first.name)
    assert not storage.exists("sha256:" + "0" * 64)


def test_any_other_storage_takes_back_the_copy_of_who_comes_second(
    monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    storage = ContentAddressedStorage(storage={"BACKEND": "django.core.files.storage.InMemoryStorage"})
    name = storage.put(ContentFile(text)).name
    looks = iter([False, False])
    exists = InMemoryStorage.exists
    monkeypatch.setattr(InMemoryStorage, "exists", lambda self, path: next(looks, exists(self, path)))
    assert not storage.put(ContentFile(text)).created
    assert [entry.name for entry in storage.writer.entries()] == [name]
    assert next(looks, None) is None
    assert storage.writer.storage.listdir(name.rpartition("/")[0])[1] == [name.rpartition("/")[2]]


def test_ages_of_a_put_are_those_of_the_last_one(storage: ContentAddressedStorage, place: Place, text: bytes) -> None:
    name = storage.put(ContentFile(text)).name
    place.age(name)
    before = storage.writer.modified(name)
    storage.put(ContentFile(text))
    after = storage.writer.modified(name)
    assert before
    assert after
    assert after - before > timedelta(days=29)
    assert storage.writer.modified("00/00/" + "0" * 64) is None

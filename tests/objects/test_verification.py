"""Objects that rot are found, and moved to where they mislead nobody."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.base import ContentFile

from django_idempotency.objects import ContentAddressedStorage
from django_idempotency.objects.verification import Verified, Verifier
from django_idempotency.signals import decision_made
from tests.models import Document
from tests.objects.conftest import Place

pytestmark = pytest.mark.django_db(transaction=True)


def verify(storage: ContentAddressedStorage, **options: Any) -> Verified:
    return Verifier(storage=storage, actor="user:alice", **options).run()


def rot(storage: ContentAddressedStorage, place: Place, text: bytes) -> str:
    name = storage.put(ContentFile(text)).name
    place.write(name, text[::-1])
    return name


def test_what_is_corrupt_is_moved_aside_and_the_next_put_heals_it(
    storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    sound, name = storage.put(ContentFile(b"sound")).name, rot(storage, place, text)
    told: list[dict[str, Any]] = []

    def listen(**facts: Any) -> None:
        told.append(facts)

    decision_made.connect(listen)
    try:
        done = verify(storage)
    finally:
        decision_made.disconnect(listen)
    assert (done.seen, done.size, done.corrupt, done.is_sound) == (2, len(text) + 5, [name], False)
    assert place.names() == {sound, f"quarantine/corrupt/{name}"}
    assert place.read(f"quarantine/corrupt/{name}") == text[::-1]
    assert [(fact["action"], fact["operation"], fact["layer"]) for fact in told] == [
        ("quarantined", "blobs", "objects")
    ]
    assert name.rpartition("/")[2] in told[0]["reason"]
    with pytest.raises(FileNotFoundError):
        storage.open(name)
    assert storage.put(ContentFile(text)).created
    assert verify(storage).is_sound


def test_a_dry_run_moves_nothing(storage: ContentAddressedStorage, place: Place, text: bytes) -> None:
    name = rot(storage, place, text)
    assert verify(storage, dry_run=True).corrupt == [name]
    assert place.names() == {name}


def test_rows_whose_content_is_missing_are_found(storage: ContentAddressedStorage, text: bytes) -> None:
    there, gone = storage.put(ContentFile(text)).name, f"00/00/{'0' * 64}"
    Document.objects.create(file=there, copy=gone)
    assert verify(storage).missing == [gone]
    assert verify(storage, share=0.999999).missing == []


def test_a_sample_reads_a_share(storage: ContentAddressedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        storage.put(ContentFile(b"%d" % number))
    drawn = iter([0.1, 0.9, 0.3, 0.7])
    monkeypatch.setattr("django_idempotency.objects.verification.random.random", lambda: next(drawn))
    assert verify(storage, share=0.5).seen == 2


def test_what_is_put_anew_while_it_is_read_is_left_alone(
    storage: ContentAddressedStorage, place: Place, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = rot(storage, place, text)
    condemn = storage.writer.condemn

    def late(name: str, version: str) -> bool:
        place.write(name, text)
        return condemn(name, version)

    monkeypatch.setattr(storage.writer, "condemn", late)
    verify(storage)
    assert place.read(name) == text


def test_an_error_of_reading_once_is_not_believed(
    storage: ContentAddressedStorage, place: Place, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(ContentFile(text))
    said = iter([False, True])
    monkeypatch.setattr(storage, "verify", lambda name: next(said))
    assert verify(storage).is_sound


def test_what_is_collected_meanwhile_is_not_corrupt(
    storage: ContentAddressedStorage, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(ContentFile(text))

    def gone(name: str) -> bool:
        raise FileNotFoundError(name)

    monkeypatch.setattr(storage, "verify", gone)
    assert verify(storage).is_sound


def test_other_storages_are_only_told_about(text: bytes) -> None:
    storage = ContentAddressedStorage(storage={"BACKEND": "django.core.files.storage.InMemoryStorage"})
    name = storage.put(ContentFile(text)).name
    inner = storage.writer.storage
    inner.delete(name)
    inner.save(name, ContentFile(text[::-1]))
    assert verify(storage).corrupt == [name]
    assert storage.exists(name)

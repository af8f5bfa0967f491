"""What nothing refers to is set aside, and purged later; what is referred to stays, whoever is faster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile

from django_idempotency.objects import ContentAddressedStorage, collection, references, register_references
from django_idempotency.objects.collection import Collected, Collector
from django_idempotency.objects.exceptions import CollectionRefused, CollectorRunning
from django_idempotency.objects.writers import Writer
from django_idempotency.signals import decision_made
from tests.models import Document
from tests.objects.conftest import Buckets, Files, Place

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
ASIDE = "quarantine/collected/"


def collect(storage: ContentAddressedStorage, **options: Any) -> Collected:
    return Collector(storage=storage, actor="user:alice", **{"grace": HOUR, "second": HOUR, **options}).run()


def old(storage: ContentAddressedStorage, place: Place, text: bytes) -> str:
    name = storage.put(ContentFile(text)).name
    place.age(name)
    return name


def test_only_what_is_old_and_not_referred_to_is_set_aside(storage: ContentAddressedStorage, place: Place) -> None:
    unwanted, wanted, copied = (old(storage, place, text) for text in (b"unwanted", b"wanted", b"copied"))
    young = storage.put(ContentFile(b"young")).name
    Document.objects.create(file=wanted, copy=copied)
    done = collect(storage)
    assert done == Collected(seen=4, young=1, referenced=2, set_aside=1, size=8)
    assert place.names() == {wanted, copied, young, ASIDE + unwanted}


def test_a_dry_run_says_the_same_and_does_nothing(storage: ContentAddressedStorage, place: Place) -> None:
    unwanted = old(storage, place, b"unwanted")
    assert collect(storage, dry_run=True) == Collected(seen=1, set_aside=1, size=8)
    assert place.names() == {unwanted}


def test_what_was_collected_can_still_be_read_until_it_is_purged(
    storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    name = old(storage, place, text)
    collect(storage)
    assert storage.exists(name)
    assert storage.verify(name)
    assert collect(storage).purged == 0
    place.age(ASIDE + name)
    assert collect(storage, dry_run=True).purged == 1
    assert collect(storage) == Collected(purged=1, size=len(text))
    assert place.names() == set()
    assert not storage.exists(name)


def test_what_is_referred_to_again_is_given_back(storage: ContentAddressedStorage, place: Place, text: bytes) -> None:
    name = old(storage, place, text)
    collect(storage)
    Document.objects.create(file=name)
    place.age(ASIDE + name)
    assert collect(storage).restored == 1
    assert place.names() == {name}
    assert collect(storage) == Collected(seen=1, young=1)


def test_a_put_of_old_content_makes_it_new(storage: ContentAddressedStorage, place: Place, text: bytes) -> None:
    name = old(storage, place, text)
    assert not storage.put(ContentFile(text)).created
    done = collect(storage)
    assert (done.set_aside, place.read(name)) == (0, text)


def test_a_put_of_what_was_collected_stores_it_anew(
    storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    name = old(storage, place, text)
    collect(storage)
    assert storage.put(ContentFile(text)).created
    assert {name, ASIDE + name} <= place.names()
    Document.objects.create(file=name)
    place.age(ASIDE + name)
    assert collect(storage).purged == 0
    assert place.names() - {f"touched/{name}"} == {name}


def between(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, act: Callable[[], Any], *, nth: int = 1) -> None:
    """Let something happen right before the n-th call of a method."""
    original, calls = getattr(owner, method), iter(range(1, 1000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == nth:
            act()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, wrapped)


def test_a_put_right_before_the_object_is_moved_gives_it_back(
    monkeypatch: pytest.MonkeyPatch, storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    name = old(storage, place, text)

    # The row that is to refer to it has not been committed yet, so that nothing else speaks for the object.
    def put() -> None:
        assert not storage.put(ContentFile(text)).created

    moved = (Path, "rename") if isinstance(place, Files) else (type(storage.writer), "_delete")
    between(monkeypatch, *moved, put)
    done = collect(storage)
    assert (done.set_aside, place.read(name)) == (0, text)


def test_a_put_right_after_the_object_is_moved_stores_it_anew(
    monkeypatch: pytest.MonkeyPatch, storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    name = old(storage, place, text)
    done: list[Collected] = []
    looked = (collection, "referenced")
    between(monkeypatch, *looked, lambda: storage.put(ContentFile(text)), nth=2)
    done.append(collect(storage))
    assert (done[0].set_aside, place.read(name)) == (1, text)


def test_a_reference_that_moves_between_rows_unseen_gives_the_object_back(
    monkeypatch: pytest.MonkeyPatch, storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    name = old(storage, place, text)
    between(monkeypatch, collection, "referenced", lambda: Document.objects.create(file=name), nth=2)
    done = collect(storage)
    assert (done.set_aside, done.restored, place.read(name)) == (0, 1, text)


def test_one_collector_at_a_time(storage: ContentAddressedStorage, place: Place) -> None:
    with storage.writer.exclusive(), pytest.raises(CollectorRunning):
        collect(place.storage())
    collect(place.storage())


def test_other_references_count_when_they_are_registered(
    monkeypatch: pytest.MonkeyPatch, storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    monkeypatch.setattr(references, "_registered", [])
    name = old(storage, place, text)
    kept = register_references(lambda names: {name} & set(names))
    assert register_references(kept) is kept
    assert collect(storage).referenced == 1


def test_nothing_is_collected_where_nothing_could_refer_to_it(
    monkeypatch: pytest.MonkeyPatch, storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    old(storage, place, text)
    monkeypatch.setattr(references, "_registered", [])
    monkeypatch.setattr(references, "columns", list)
    with pytest.raises(CollectionRefused, match="everything would be collected"):
        collect(storage)


def test_other_storages_are_not_collected() -> None:
    storage = ContentAddressedStorage(storage={"BACKEND": "django.core.files.storage.InMemoryStorage"})
    storage.put(ContentFile(b"kept"))
    with pytest.raises(CollectionRefused, match="InMemoryStorage"):
        collect(storage)


def test_a_collection_is_told(storage: ContentAddressedStorage, place: Place, text: bytes) -> None:
    told: list[dict[str, Any]] = []

    def listen(**facts: Any) -> None:
        told.append(facts)

    decision_made.connect(listen)
    try:
        collect(storage)
        old(storage, place, text)
        collect(storage, dry_run=True)
        collect(storage)
    finally:
        decision_made.disconnect(listen)
    (fact,) = told
    assert (fact["layer"], fact["operation"], fact["action"]) == ("objects", "blobs", "collected")
    assert (fact["actor"], fact["reason"]) == ("user:alice", "1 set aside, 0 purged, 0 restored")


def test_many_objects_are_collected_in_batches(
    monkeypatch: pytest.MonkeyPatch, storage: ContentAddressedStorage, place: Place
) -> None:
    monkeypatch.setattr(collection, "BATCH", 3)
    names = [old(storage, place, b"%d" % number) for number in range(8)]
    Document.objects.create(file=names[5])
    assert collect(storage) == Collected(seen=8, referenced=1, set_aside=7, size=7)


def test_a_writer_says_what_it_leaves_behind(storage: ContentAddressedStorage, place: Place, text: bytes) -> None:
    writer: Writer = storage.writer
    name = storage.put(ContentFile(text)).name
    if isinstance(place, Buckets):
        client, at = writer.storage.connection.meta.client, {"Bucket": place.s3.bucket, "Key": name}
        client.create_multipart_upload(**at)
        client.create_multipart_upload(**{**at, "Key": "of/others"})
        storage.put(ContentFile(text))
        place.age(f"touched/{name}")
        leftovers = 2
    else:
        place.write("tmp/tmpdead", b"half of it")
        place.write("tmp/tmpalive", b"half of it")
        place.age("tmp/tmpdead")
        leftovers = 1
    assert collect(storage, dry_run=True).leftovers == leftovers
    assert collect(storage).leftovers == leftovers
    assert collect(storage).leftovers == 0
    assert place.read(name) == text


def test_what_is_given_back_while_it_is_looked_for_is_found(
    monkeypatch: pytest.MonkeyPatch, storage: ContentAddressedStorage, place: Place, text: bytes
) -> None:
    name = old(storage, place, text)
    collect(storage)
    inner = type(storage.writer.storage)

    def give_back() -> None:
        storage.writer.restore(name)
        storage.writer.purge(name)

    between(monkeypatch, inner, "_open", give_back, nth=2)
    with storage.open(name) as file:
        assert file.read() == text

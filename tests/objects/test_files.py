"""What a put in a file system writes and waits for, in which order, and what it spares."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile

from django_idempotency.objects import ContentAddressedStorage, blobs, files
from django_idempotency.objects.collection import Collector
from django_idempotency.objects.folders import Folders
from tests.objects.conftest import Files
from tests.objects.test_storage import Stream

HOUR = timedelta(hours=1)


@pytest.fixture
def place(tmp_path: Path) -> Files:
    return Files(tmp_path / "objects")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the system is asked for, in order, each with the last part of a path."""
    told: list[str] = []

    def telling(name: str, call: Callable[..., Any], path_of: Callable[..., str]) -> Callable[..., Any]:
        def told_call(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            told.append(f"{name} {os.path.basename(path_of(*args))[:3]}")
            return result

        return told_call

    monkeypatch.setattr(os, "fsync", telling("sync", os.fsync, lambda handle: os.readlink(f"/proc/self/fd/{handle}")))
    monkeypatch.setattr(os, "link", telling("link", os.link, lambda source, target: str(target)))
    monkeypatch.setattr(os, "unlink", telling("unlink", os.unlink, lambda path: str(path)))
    return told


def parts(name: str) -> tuple[str, str, str]:
    first, second, digest = name.split("/")
    return first, second, digest[:3]


def test_new_content_is_durable_before_its_second_link_goes(place: Files, steps: list[str], text: bytes) -> None:
    first, second, digest = parts(place.storage().put(ContentFile(text)).name)
    steps[:] = steps[steps.index("sync tmp") :]
    assert steps == [
        "sync tmp",
        f"link {digest}",
        f"sync {second}",
        f"sync {first}",
        "sync obj",
        "unlink tmp",
    ]


def test_folders_that_are_known_to_be_durable_are_not_waited_for_again(
    place: Files, steps: list[str], text: bytes
) -> None:
    storage = place.storage(fanout=(1,))
    names: dict[str, int] = {}
    for number in range(60):
        steps.clear()
        folder = storage.put(ContentFile(text + b"%d" % number)).name[0]
        assert steps.count(f"sync {folder}") == 1
        assert steps.count("sync obj") == (0 if folder in names else 1)
        names[folder] = number
    assert len(names) > 3


def test_known_content_costs_neither_a_file_nor_a_wait(
    place: Files, steps: list[str], text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.storage().put(ContentFile(text))
    steps.clear()
    monkeypatch.setattr(files, "mkstemp", None)
    for again in (ContentFile(text), io.BytesIO(text), Stream(text)):
        assert not place.storage().put(again).created
    assert steps == []


def test_an_object_with_a_second_link_is_made_durable_by_whoever_finds_it(
    place: Files, steps: list[str], text: bytes
) -> None:
    """Whoever has linked it may have died before, or may be about to."""
    name = place.storage().put(ContentFile(text)).name
    os.link(place.folder / name, place.folder / "tmp/tmpleft")
    steps.clear()
    assert not place.storage().put(ContentFile(text)).created
    first, second, _ = parts(name)
    assert steps == [f"sync {second}", f"sync {first}", "sync obj"]


def test_a_put_that_fails_once_it_is_linked_leaves_the_second_link(
    place: Files, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = place.storage()

    def fail(self: Folders, folder: Path) -> None:
        raise OSError(5, "the disk is gone")

    monkeypatch.setattr(Folders, "settle", fail)
    with pytest.raises(OSError, match="the disk"):
        storage.put(ContentFile(text))
    (left,) = (name for name in place.names() if name.startswith("tmp/"))
    assert (place.folder / left).stat().st_nlink == 2


@pytest.mark.django_db(transaction=True)
def test_a_collector_makes_an_object_durable_before_it_deletes_the_second_link(
    place: Files, steps: list[str], text: bytes
) -> None:
    name = place.storage().put(ContentFile(text)).name
    os.link(place.folder / name, place.folder / "tmp/tmpleft")
    steps.clear()
    collector = Collector(storage=place.storage(), grace=HOUR, second=HOUR, actor="user:alice")
    assert collector.run().leftovers == 1
    _, second, _ = parts(name)
    assert steps.index(f"sync {second}") < steps.index("unlink tmp")
    assert place.names() == {name}


def test_what_is_given_back_is_durable_before_the_link_in_quarantine_goes(
    place: Files, steps: list[str], text: bytes
) -> None:
    writer = place.storage().writer
    name = place.storage().put(ContentFile(text)).name
    place.age(name)
    aside = place.folder / "quarantine/collected" / name
    aside.parent.mkdir(parents=True)
    (place.folder / name).rename(aside)
    steps.clear()
    writer.restore(name)
    _, second, digest = parts(name)
    assert steps.index(f"link {digest}") < steps.index(f"sync {second}") < steps.index(f"unlink {digest}")


def test_part_of_an_object_is_replaced_by_what_has_a_second_link(place: Files, steps: list[str], text: bytes) -> None:
    name = place.storage().put(ContentFile(text)).name
    place.write(name, text[:3])
    steps.clear()
    assert place.storage().put(ContentFile(text)).created
    _, second, _ = parts(name)
    assert steps.index("link tmp") < steps.index(f"sync {second}") < steps.index("unlink tmp")
    assert place.names() == {name, f"quarantine/corrupt/{name}"}


def test_without_fsync_nothing_is_waited_for(place: Files, steps: list[str], text: bytes) -> None:
    storage = place.storage(fsync=False)
    assert [storage.put(ContentFile(text)).created for _ in range(2)] == [True, False]
    assert [step for step in steps if step.startswith("sync")] == []
    assert storage.verify(storage.put(ContentFile(text)).name)


def test_folders_that_have_been_removed_are_made_again(place: Files, steps: list[str], text: bytes) -> None:
    storage = place.storage()
    name = storage.put(ContentFile(text)).name
    shutil.rmtree(place.folder)
    steps.clear()
    assert storage.put(ContentFile(text)).created
    assert place.names() == {name}
    first, second, _ = parts(name)
    assert steps[-4:] == [f"sync {second}", f"sync {first}", "sync obj", "unlink tmp"]


def test_what_is_remembered_of_folders_is_bounded(place: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folders, "_most_settled", 4)
    storage: Any = place.storage()
    for number in range(20):
        assert storage.put(ContentFile(b"%d" % number)).created
    assert 0 < len(storage.writer._folders._settled) <= 4


class Growing(io.BytesIO):
    """A file that somebody goes on writing to."""

    def seek(self, position: int, whence: int = 0) -> int:
        if position == 0 and self.tell() and whence == 0:
            super().seek(0, io.SEEK_END)
            self.write(b"more")
        return super().seek(position, whence)


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "MEMORY", 100)
    monkeypatch.setattr(blobs, "CHUNK", 64)


@pytest.mark.usefixtures("_little_memory")
def test_large_files_are_looked_for_before_they_are_written(
    place: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(b"large" * 100)
    storage: ContentAddressedStorage = place.storage()
    for created in (True, False):
        with (tmp_path / "large").open("rb") as file:
            blob = storage.put(file)
        assert (blob.created, blob.size) == (created, 500)
        monkeypatch.setattr(files, "mkstemp", None)
    assert storage.verify(blob.name)


@pytest.mark.usefixtures("_little_memory")
def test_large_streams_are_known_when_they_are_written(place: Files) -> None:
    storage = place.storage()
    for created in (True, False):
        blob = storage.put(Stream(b"large" * 100))
        assert (blob.created, blob.size) == (created, 500)
    assert storage.verify(blob.name)
    assert place.names() == {blob.name}


@pytest.mark.usefixtures("_little_memory")
def test_a_large_file_that_changes_is_stored_as_what_was_read_last(place: Files) -> None:
    storage = place.storage()
    blob = storage.put(Growing(b"large" * 100))
    assert blob.size > 500
    assert storage.verify(blob.name)
    assert storage.size(blob.name) == blob.size

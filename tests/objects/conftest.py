"""Places that objects are kept in, each empty and of its own."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_idempotency.objects import ContentAddressedStorage
from tests.s3_servers import S3, started_s3


class Place(ABC):
    """What is below a storage, seen past it. Names are those of the place, quarantines included."""

    entry: dict[str, Any]

    def storage(self, **options: Any) -> ContentAddressedStorage:
        return ContentAddressedStorage(**{**self.entry["OPTIONS"], **options})

    @abstractmethod
    def names(self) -> set[str]:
        """All that is there."""

    @abstractmethod
    def read(self, name: str) -> bytes: ...

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Replace what is there."""

    @abstractmethod
    def age(self, name: str, by: timedelta = timedelta(days=30)) -> None:
        """Let it have been written earlier."""


class Files(Place):
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        inner = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(folder)}}
        self.entry = {
            "BACKEND": "django_idempotency.objects.ContentAddressedStorage",
            "OPTIONS": {"storage": inner},
        }

    def names(self) -> set[str]:
        paths = (path for path in self.folder.rglob("*") if path.is_file() and path.name != ".collector")
        return {path.relative_to(self.folder).as_posix() for path in paths}

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def age(self, name: str, by: timedelta = timedelta(days=30)) -> None:
        then = (self.folder / name).stat().st_mtime - by.total_seconds()
        os.utime(self.folder / name, (then, then))


class Buckets(Place):
    """A bucket."""

    def __init__(self, s3: S3) -> None:
        self.s3 = s3
        self.entry = s3.entry()

    def names(self) -> set[str]:
        return set(self.s3.keys())

    def read(self, name: str) -> bytes:
        return self.s3.keys()[name].value

    def write(self, name: str, data: bytes) -> None:
        client = self.storage().writer.storage.connection.meta.client
        client.put_object(Bucket=self.s3.bucket, Key=name, Body=data)

    def age(self, name: str, by: timedelta = timedelta(days=30)) -> None:
        self.s3.age(name, by)


@pytest.fixture
def s3() -> Iterator[S3]:
    with started_s3() as made:
        yield made


@pytest.fixture(params=["files", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Both places that objects can be collected from; the alias ``blobs`` leads there."""
    if request.param == "files":
        return Files(tmp_path / "objects")
    return Buckets(request.getfixturevalue("s3"))


@pytest.fixture
def storage(place: Place) -> Iterator[ContentAddressedStorage]:
    from django.core.files.storage import storages

    with override_settings(STORAGES={"blobs": place.entry}):
        yield storages["blobs"]


@pytest.fixture
def text() -> bytes:
    """Content that nobody else has."""
    return f"a report, {secrets.token_hex(16)}\n".encode()

"""What is read of content, how often, and when it is known."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.uploadedfile import InMemoryUploadedFile, TemporaryUploadedFile

from django_idempotency.objects import blobs
from django_idempotency.objects.blobs import Content
from tests.objects.test_storage import Stream

DATA = b"content" * 100


class Once(File):
    """Chunks of its own, which come once."""

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        data, self.file = self.file.read(), io.BytesIO()
        yield data[:350]
        yield data[350:]


class Unseekable:
    """Can be read, and nothing else."""

    name = "pipe"

    def __init__(self) -> None:
        self.read = io.BytesIO(DATA).read


def uploaded() -> TemporaryUploadedFile:
    file = TemporaryUploadedFile("a.txt", "text/plain", len(DATA), None)
    file.write(DATA)
    file.flush()
    return file


SOURCES: dict[str, Any] = {
    "bytes": (lambda: ContentFile(DATA), True),
    "buffer": (lambda: io.BytesIO(DATA), True),
    "text": (lambda: ContentFile(DATA.decode()), True),
    "upload": (lambda: InMemoryUploadedFile(io.BytesIO(DATA), None, "a", "text/plain", len(DATA), None), False),
    "file": (uploaded, True),
    "stream": (lambda: Stream(DATA), False),
    "unseekable": (Unseekable, False),
    "chunks": (lambda: Once(io.BytesIO(DATA)), False),
}


@pytest.mark.parametrize("memory", [10, 10_000])
@pytest.mark.parametrize("source", SOURCES)
def test_it_is_read_whole_whatever_it_comes_from(source: str, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "MEMORY", memory)
    monkeypatch.setattr(blobs, "CHUNK", 64)
    make, is_readable_again = SOURCES[source]
    content = Content(make(), "sha256")
    is_known = content.foresee()
    assert is_known == (memory > len(DATA) or is_readable_again)
    if is_known:
        assert content.hexdigest == hashlib.sha256(DATA).hexdigest()
    assert b"".join(content) == DATA
    assert (content.hexdigest, content.size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))


def test_a_buffer_is_not_copied_and_cannot_change_meanwhile() -> None:
    buffer = io.BytesIO(DATA)
    content = Content(buffer, "sha256")
    assert content.foresee()
    buffer.seek(0)
    buffer.write(b"other")
    assert b"".join(content) == DATA


def test_without_a_look_ahead_it_is_known_once_it_is_read() -> None:
    content = Content(Stream(DATA), "blake2b")
    assert b"".join(content) == DATA
    assert content.hexdigest == hashlib.blake2b(DATA).hexdigest()

"""Content and its name: what the same bytes are called, wherever and whenever they arrive."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import File

#: What cannot be made to collide on purpose, as MD5 and SHA-1 can.
ALGORITHMS = frozenset({"sha256", "sha384", "sha512", "sha3_256", "sha3_512", "blake2b", "blake2s"})
#: Content of up to so many bytes is read into memory; what is larger is read twice, or written before it is known.
MEMORY = 16 * 1024 * 1024
CHUNK = 256 * 1024
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Content that is stored: ``digest`` is ``algorithm:hexadecimal``, ``size`` in bytes.

    ``created`` is whether this call stored it; otherwise it was there already.
    """

    name: str
    digest: str
    size: int
    created: bool


class Content:
    """Bytes that are hashed as they are read: ``size`` and ``hexdigest`` are those of what has been read."""

    def __init__(self, file: File[Any] | IO[Any], algorithm: str) -> None:
        self._file = file if isinstance(file, File) else File(file)
        self._hash = hashlib.new(algorithm)
        self._ahead: list[bytes | memoryview] = []
        self._rest = self._read()
        self.algorithm = algorithm
        self.content_type: str | None = getattr(file, "content_type", None)
        self.size = 0

    def foresee(self) -> bool:
        """Read before anything is written, what fits into memory or can be read again; tell whether that was all."""
        for chunk in self._rest:
            self._ahead.append(chunk)
            if self.size > MEMORY and not self._is_in_memory:
                return self._foresee_twice()
        return True

    def _foresee_twice(self) -> bool:
        """Read to the end, and begin anew: the second reading is hashed again, since files change."""
        if not self._is_readable_again:
            return False
        self._ahead.clear()
        for _ in self._rest:
            pass
        self._rest = self._read()
        return True

    def __iter__(self) -> Iterator[bytes | memoryview]:
        while self._ahead:
            yield self._ahead.pop(0)
        yield from self._rest

    def _read(self) -> Iterator[bytes | memoryview]:
        self._hash, self.size = hashlib.new(self.algorithm), 0
        for chunk in self._chunks():
            data = chunk.encode() if isinstance(chunk, str) else chunk
            self._hash.update(data)
            self.size += len(data)
            yield data

    def _chunks(self) -> Iterable[Any]:
        if not self._is_in_memory:
            return self._file.chunks(CHUNK)
        # BytesIO gives away what it has without a copy, as bytes that nobody can change.
        whole = memoryview(self._file.file.getvalue())  # type: ignore[union-attr]
        return (whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK))

    @property
    def _is_in_memory(self) -> bool:
        return self._is_plain and type(self._file.file) is BytesIO

    @property
    def _is_readable_again(self) -> bool:
        with suppress(AttributeError, OSError):
            return self._is_plain and self._file.seekable() and self._file.seek(self._file.tell()) is not None
        return False

    @property
    def _is_plain(self) -> bool:
        """Whether its chunks are those of the file below it, from its beginning."""
        return type(self._file).chunks is File.chunks

    @property
    def hexdigest(self) -> str:
        """The digest of what has been read so far."""
        return self._hash.hexdigest()


class Naming:
    """Names are digests behind folders of their first digits: ``aa/bb/aabbcc…`` with a fan-out of ``(2, 2)``."""

    def __init__(self, algorithm: str, fanout: Sequence[int]) -> None:
        if algorithm not in ALGORITHMS:
            raise ImproperlyConfigured(f"algorithm must be one of {', '.join(sorted(ALGORITHMS))}, not {algorithm!r}.")
        if not all(isinstance(digits, int) and 1 <= digits <= 4 for digits in fanout) or len(fanout) > 4:
            raise ImproperlyConfigured("fanout must be up to four numbers of digits from 1 to 4.")
        self.algorithm = algorithm
        self._fanout = tuple(fanout)
        self._digits = 2 * hashlib.new(algorithm).digest_size

    def name(self, hexdigest: str) -> str:
        """Return the name of the content with this digest."""
        folders, start = [], 0
        for digits in self._fanout:
            folders.append(hexdigest[start : start + digits])
            start += digits
        return "/".join([*folders, hexdigest])

    def hexdigest(self, name: str) -> str | None:
        """Return the digest that a name promises, None if it is not the name of any content."""
        last = name.rpartition("/")[2]
        is_digest = len(last) == self._digits and _HEX.fullmatch(last)
        return last if is_digest and self.name(last) == name else None

    def resolve(self, name: str) -> str:
        """Return the name for a name or a digest. Raises ValueError."""
        algorithm, colon, hexdigest = name.partition(":")
        found = self.name(hexdigest) if colon and algorithm == self.algorithm else name
        if self.hexdigest(found) is None:
            raise ValueError(f"{name!r} is neither a name nor a digest of this storage.")
        return found

    def digest(self, name: str) -> str:
        """Return the digest that the name of a content promises, with its algorithm."""
        return f"{self.algorithm}:{self.hexdigest(name)}"


def digest_of(chunks: Iterable[bytes], algorithm: str) -> str:
    """Return the hexadecimal digest of content that is read for this alone."""
    found = hashlib.new(algorithm)
    for chunk in chunks:
        found.update(chunk)
    return found.hexdigest()

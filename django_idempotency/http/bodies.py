"""Request bodies in canonical form, and still readable by the view afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, Protocol

from django.conf import settings as django_settings
from django.http import HttpRequest

from django_idempotency.core.fingerprints import (
    FieldFilter,
    canonical_form,
    canonical_json,
    canonical_pairs,
    hash_chunks,
)
from django_idempotency.core.keys import length_prefixed

_CHUNK = 1 << 16
_DEFAULT_BUFFER = 2_621_440


class FormRequest(Protocol):
    """Anything with the parsed form of a request: Django's HttpRequest, DRF's Request."""

    @property
    def POST(self) -> Any: ...  # noqa: D102, N802

    @property
    def FILES(self) -> Any: ...  # noqa: D102, N802


def buffer_body(request: HttpRequest) -> bool:
    """Read a body of a size that Django allows in memory, so that all may read it again; tell whether it was."""
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    if length > _buffer_size():
        return False
    _ = request.body
    return True


def canonical_body(request: HttpRequest, form: FormRequest, selected: FieldFilter | None) -> tuple[str, str, bytes]:
    """Return the media type, the kind of canonicalisation and the canonical body or its SHA-256.

    What has no canonical form (another media type, JSON with duplicate members, a body beyond the buffer) counts byte
    by byte.
    """
    media_type = (request.content_type or "").lower()
    buffered = buffer_body(request)
    if media_type == "multipart/form-data":
        return media_type, "parts", _canonical_parts(form, selected)
    if not buffered:
        return media_type, "raw", _hash_stream(request)
    if media_type == "application/x-www-form-urlencoded":
        return media_type, "form", canonical_form(request.body.decode("latin-1"), selected)
    if media_type == "application/json" or media_type.endswith("+json"):
        try:
            return media_type, "json", canonical_json(request.body, selected)
        except ValueError:
            pass
    return media_type, "raw", hash_chunks([request.body])


def _canonical_parts(form: FormRequest, selected: FieldFilter | None) -> bytes:
    fields = ((name, value.encode()) for name, values in form.POST.lists() for value in values)
    files = ((name, _describe(file)) for name, values in form.FILES.lists() for file in values)
    return length_prefixed((canonical_pairs(fields, selected), canonical_pairs(files, selected)))


def _describe(file: Any) -> bytes:
    content = hash_chunks(file.chunks())
    file.seek(0)
    name, media_type = file.name or "", file.content_type or ""
    return length_prefixed((name.encode("utf-8", "surrogatepass"), media_type.encode(), content))


def _hash_stream(request: HttpRequest) -> bytes:
    """Hash a long body while spooling it to disk, then put the spool in the place of the stream."""
    spool = SpooledTemporaryFile(max_size=_buffer_size())  # noqa: SIM115 - lives as long as the request

    def chunks() -> Iterator[bytes]:
        while chunk := request.read(_CHUNK):
            spool.write(chunk)
            yield chunk

    digest = hash_chunks(chunks())
    spool.seek(0)
    request._stream = spool  # type: ignore[assignment]
    request._read_started = False  # type: ignore[attr-defined]
    return digest


def _buffer_size() -> int:
    return django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE or _DEFAULT_BUFFER

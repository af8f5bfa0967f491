"""Request bodies in canonical form, and still readable by the view afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import Any, Protocol
from weakref import finalize

from django.conf import settings as django_settings
from django.core.exceptions import BadRequest
from django.core.files import File
from django.http import HttpRequest
from django.http.request import RawPostDataException
from django.utils.datastructures import MultiValueDict

from django_idempotency.core.fingerprints import (
    FieldFilter,
    TooDeep,
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
    if hasattr(request, "_body"):
        return True
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
    by byte. Raises BadRequest for JSON that no parser can follow: the view would only fail on it.
    """
    media_type = (request.content_type or "").lower()
    buffered = buffer_body(request)
    if media_type == "multipart/form-data":
        return media_type, "parts", _canonical_parts(form, selected)
    if not buffered:
        return media_type, "raw", _hash_stream(request)
    try:
        if media_type == "application/x-www-form-urlencoded":
            return media_type, "form", canonical_form(request.body, selected)
        if media_type == "application/json" or media_type.endswith("+json"):
            return media_type, "json", canonical_json(request.body, selected)
    except TooDeep as error:
        raise BadRequest("The JSON body is nested too deeply.") from error
    except ValueError:
        pass
    return media_type, "raw", hash_chunks([request.body])


def _canonical_parts(form: FormRequest, selected: FieldFilter | None) -> bytes:
    return length_prefixed(_canonical_fields(values, selected) for values in (form.POST, form.FILES))


def _canonical_fields(values: Any, selected: FieldFilter | None) -> bytes:
    """Canonicalise a MultiValueDict, or what a parser of the view's own has made of the form."""
    if isinstance(values, MultiValueDict):
        pairs = ((name, value) for name, several in values.lists() for value in several)
    elif isinstance(values, Mapping):
        pairs = ((str(name), value) for name, value in values.items())
    else:
        return _describe(values)
    return canonical_pairs(((name, _describe(value)) for name, value in pairs), selected)


def _describe(value: Any) -> bytes:
    if isinstance(value, str):
        return b"text" + value.encode("utf-8", "surrogatepass")
    if isinstance(value, File):
        return b"file" + _describe_file(value)
    if isinstance(value, Mapping):
        return b"dict" + _canonical_fields(value, None)
    if isinstance(value, list | tuple):
        return b"list" + length_prefixed(_describe(item) for item in value)
    return ascii(value).encode()


def _describe_file(file: Any) -> bytes:
    content = hash_chunks(file.chunks())
    file.seek(0)
    name, media_type = file.name or "", getattr(file, "content_type", None) or ""
    return length_prefixed((name.encode("utf-8", "surrogatepass"), media_type.encode(), content))


def _hash_stream(request: HttpRequest) -> bytes:
    """Hash a long body while spooling it to disk, then put the spool in the place of the stream.

    Raises RawPostDataException where a permission, say, has read it: without its bytes it cannot be told from others.
    """
    if request._read_started:  # type: ignore[attr-defined]
        raise RawPostDataException("A body this long must not be read before its idempotency key is checked.")
    spool = SpooledTemporaryFile(max_size=max(_buffer_size(), 1))  # noqa: SIM115 - lives as long as the request
    finalize(request, spool.close)

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
    limit = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return _DEFAULT_BUFFER if limit is None else limit

"""The published side of the protocol."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html

from django_idempotency.conf import settings
from django_idempotency.core.keys import MAX_KEY_LENGTH
from django_idempotency.http.problems import every_problem

_FORMATS = {
    "uuid_or_ulid": "a UUID (version 4 or 7) or a ULID",
    "uuid": "a UUID",
    "ulid": "a ULID",
    "any": f"1 to {MAX_KEY_LENGTH} visible ASCII characters",
}


def problem(request: HttpRequest, code: str) -> HttpResponse:
    """Explain one problem type to whoever follows its ``type`` address, with the policy that it comes from."""
    found = next((problem for problem in every_problem() if problem.code == code), None)
    if found is None:
        raise Http404
    page = format_html(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<h1>{title}</h1><p>HTTP {status}. {advice}</p><p>{retry}</p>"
        "<h2>Policy</h2><p>{policy}</p></html>",
        title=found.title,
        status=found.status,
        advice=found.advice,
        retry="The same request may be sent again." if found.retryable else "The same request will fail again.",
        policy=_policy(),
    )
    return HttpResponse(page)


def _policy() -> str:
    """Return what holds where an operation documents nothing else (draft-07 §2.5.2 asks for an expiry policy)."""
    key_format = settings.KEY_FORMAT
    described = "documented by each operation" if callable(key_format) else _FORMATS[key_format]
    return (
        f"The key is sent in the header {' or '.join(settings.HEADERS)}. Its format is {described}. "
        f"Unless the operation says otherwise, an outcome is kept for {settings.ttl.total_seconds():.0f} seconds; "
        "Idempotency-Expires in a response says until when. After that the key is unknown."
    )

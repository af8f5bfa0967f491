"""Responses captured as outcomes, and outcomes sent as responses."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import lru_cache

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import http_date

from django_idempotency.conf import settings
from django_idempotency.core import notes
from django_idempotency.core.outcomes import Outcome
from django_idempotency.core.policies import Policy

# What describes the outcome itself. All else (cookies, CORS, rate limits, dates) belongs to the exchange at hand.
KEPT_HEADERS = frozenset(
    """
    cache-control content-disposition content-encoding content-language content-location content-type etag last-modified
    link location
    """.split()
)
# What describes the body goes with it.
_BODY_HEADERS = frozenset({"content-disposition", "content-encoding", "content-language", "content-type"})
# Policy.body of outcomes that are replayed without their body.
WITHHELD = frozenset({"none", "hash_only"})
DIGEST_HEADER = "Idempotency-Body-Digest"
_STATUSES_WITHOUT_BODY = frozenset({204, 205, 304})


def capture(response: HttpResponseBase, policy: Policy) -> Outcome:
    """Return what a replay will repeat; without a body where it streams or is longer than what is kept."""
    wanted = KEPT_HEADERS.union(policy.headers) if policy.headers else KEPT_HEADERS
    body: bytes | None = b""
    if policy.body in WITHHELD or response.status_code in _STATUSES_WITHOUT_BODY:
        wanted -= _BODY_HEADERS
    else:
        body = _body(response, settings.MAX_BODY if policy.max_body is None else policy.max_body)
    headers = tuple((name, value) for name, value in response.items() if name.lower() in wanted) + notes.take()
    if policy.body == "hash_only":
        headers += _digest(response)
    return Outcome(status=response.status_code, headers=headers, body=body)


def _digest(response: HttpResponseBase) -> tuple[tuple[str, str], ...]:
    """Return the header that tells of the body that is not kept, as RFC 9530 writes digests; none where it streams."""
    if not isinstance(response, HttpResponse) or response.status_code in _STATUSES_WITHOUT_BODY:
        return ()
    digest = base64.b64encode(hashlib.sha256(response.content).digest()).decode()
    return ((DIGEST_HEADER, f"sha-256=:{digest}:"),)


def _body(response: HttpResponseBase, max_body: int) -> bytes | None:
    if not isinstance(response, HttpResponse):
        return None
    return response.content if len(response.content) <= max_body else None


def replay(outcome: Outcome) -> HttpResponse:
    """Make the response that an earlier outcome calls for, byte for byte."""
    response = HttpResponse(outcome.body or b"", status=outcome.status)
    del response["Content-Type"]
    for name, value in notes.without(outcome.headers):
        response[name] = value
    response[settings.REPLAYED_HEADER] = "true"
    return response


def tell_expiry(response: HttpResponseBase, expires_at: datetime | None) -> None:
    """Say until when the outcome is replayed (``Idempotency-Expires``, an IMF-fixdate)."""
    if expires_at is not None:
        response["Idempotency-Expires"] = _imf_fixdate(int(expires_at.timestamp()))


@lru_cache(maxsize=64)
def _imf_fixdate(second: int) -> str:
    return http_date(second)

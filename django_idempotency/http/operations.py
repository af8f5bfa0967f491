"""From a request to its operation: the key it carries, who asks, and what the request says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from django.http import HttpRequest

from django_idempotency.conf import settings
from django_idempotency.core.fingerprints import FieldFilter, canonical_form, content_digest, hash_chunks
from django_idempotency.core.keys import IdempotencyKey, parse_key, validate_key
from django_idempotency.core.policies import Policy
from django_idempotency.core.records import Operation
from django_idempotency.exceptions import InvalidKey, MissingScope
from django_idempotency.http.bodies import FormRequest, _canonical_parts, _hash_stream, buffer_body, canonical_body

_MULTIPART = "multipart/form-data"
_FORMS = frozenset({"application/x-www-form-urlencoded", _MULTIPART})
_CSRF_FIELD = "csrfmiddlewaretoken"
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=$|[,;])', re.IGNORECASE | re.ASCII)


def read_key(request: HttpRequest, policy: Policy) -> str | None:
    """Return the validated key of the request, None without one. Raises InvalidKey."""
    values = {parse_key(value, strict=settings.STRICT_SYNTAX) for value in _field_values(request)}
    if not values:
        values = set(_form_values(request, policy))
    if not values:
        return None
    if len(values) > 1:
        raise InvalidKey("The request carries more than one key.")
    value = values.pop()
    validate_key(value, policy.key_format or settings.KEY_FORMAT)
    return value


def has_key(request: HttpRequest) -> bool:
    """Tell whether the request carries a key, well-formed or not."""
    return any(_meta_name(name) in request.META for name in settings.HEADERS)


def carries_key(request: HttpRequest, policy: Policy) -> bool:
    """Tell whether the request carries a key in its header or its form, well-formed or not."""
    return has_key(request) or bool(_form_values(request, policy))


def _form_values(request: HttpRequest, policy: Policy) -> list[str]:
    if not policy.form_field or request.method != "POST" or request.content_type not in _FORMS:
        return []
    if not _is_parsed(request):
        buffer_body(request)
    return request.POST.getlist(policy.form_field)


def _is_parsed(request: HttpRequest) -> bool:
    """Tell whether somebody has had a multipart form parsed, CSRF protection for one, so that its bytes are gone."""
    return request._read_started and not hasattr(request, "_body")  # type: ignore[attr-defined]


def _field_values(request: HttpRequest) -> Iterator[str]:
    for name in settings.HEADERS:
        value = request.META.get(_meta_name(name))
        if value is None:
            continue
        # WSGI joins field lines by a comma, which parse_key refuses; ASGI still tells how many there were.
        lines = [line for line, _ in getattr(request, "scope", {}).get("headers", ()) if line == name.lower().encode()]
        if len(lines) > 1:
            raise InvalidKey("The request carries more than one key.")
        yield value


@cache
def _meta_name(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def user_scope(user: Any) -> tuple[str, ...]:
    """Return the scope of an authenticated user: model and primary key, whatever its token. Raises MissingScope."""
    if not getattr(user, "is_authenticated", False) or user.pk is None:
        raise MissingScope
    kind = user._meta.label_lower if hasattr(user, "_meta") else type(user).__qualname__
    return (f"{kind}:{user.pk}",)


def operation_name(request: HttpRequest) -> str:
    """Return method and route name, such as ``POST charge-list``; the route itself where it has no name."""
    match = request.resolver_match
    if match is None:
        return f"{request.method} {request.path_info}"
    return f"{request.method} {match.view_name if match.url_name else match.route}"


def build_operation(
    request: HttpRequest,
    policy: Policy,
    *,
    key: str,
    scope: str | tuple[str, ...],
    form: FormRequest,
    route_arguments: Mapping[str, Any],
    version: str = "",
) -> Operation:
    """Make the operation of a request. ``form`` gives POST and FILES of a multipart body as the view parses it.

    Raises MissingScope for an empty scope, which all would share.
    """
    if not (scope and any(scope)):
        raise MissingScope
    parts: list[str | bytes] = [
        request.method or "",
        version,
        _canonical_query(request),
        *_route(request, route_arguments),
        *_canonical_body(request, form, _field_filter(request, policy)),
    ]
    return Operation(
        key=IdempotencyKey(
            value=key,
            scope=(scope,) if isinstance(scope, str) else scope,
            operation=operation_name(request),
        ),
        content_digest=content_digest(parts),
        keyring=settings.keyring,
        request_id=_request_id(request),
    )


def _request_id(request: HttpRequest) -> str:
    value: str = request.META.get(_meta_name(settings.REQUEST_ID_HEADER), "")
    return value[:255] if value.isprintable() else ""


def _field_filter(request: HttpRequest, policy: Policy) -> FieldFilter | None:
    """Leave out of a form what each rendering of the same form has anew."""
    selected = policy.field_filter
    if request.content_type not in _FORMS:
        return selected
    renewed = {_CSRF_FIELD, policy.form_field or _CSRF_FIELD}
    return lambda name: name not in renewed and (selected is None or selected(name))


def _canonical_body(request: HttpRequest, form: FormRequest, selected: FieldFilter | None) -> tuple[str, str, bytes]:
    """Canonicalise the body, also of a form that Django parses itself: for POST alone, and perhaps before us."""
    if form is not request or request.content_type != _MULTIPART:
        return canonical_body(request, form, selected)
    if request.method != "POST":
        content = hash_chunks([request.body]) if buffer_body(request) else _hash_stream(request)
        return _MULTIPART, "raw", content
    if _is_parsed(request):
        return _MULTIPART, "parts", _canonical_parts(form, selected)
    return canonical_body(request, form, selected)


def _canonical_query(request: HttpRequest) -> bytes:
    """Canonicalise the query string, which WSGI hands over as Latin-1 and ASGI as UTF-8."""
    text: str = request.META.get("QUERY_STRING", "")
    encoded = text.encode("utf-8" if hasattr(request, "scope") else "latin-1")
    try:
        return canonical_form(encoded)
    except ValueError:
        return encoded


def _route(request: HttpRequest, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the route, since others may have its name, and its arguments, named or not."""
    match = request.resolver_match
    unnamed = [str(value) for value in match.args] if match else []
    named = sorted((name, str(value)) for name, value in arguments.items())
    yield match.route if match else request.path_info
    yield f"{len(unnamed)} {len(named)}"
    yield from unnamed
    for argument in named:
        yield from argument


def wait_of(request: HttpRequest, policy: Policy) -> timedelta:
    """Return how long a duplicate in flight waits: as ``Prefer: wait=`` or the policy says, within the bound."""
    match = _WAIT.search(request.META.get("HTTP_PREFER", ""))
    asked = timedelta(seconds=int(match[1])) if match else policy.wait
    return min(asked, settings.max_wait) if asked else asked

"""Checks of plain views: those with the decorator, and those that the middleware enrols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver
from django.utils.module_loading import import_string

from django_idempotency.conf import settings
from django_idempotency.core.policies import Policy
from django_idempotency.http.enrolment import named_policy
from django_idempotency.http.middleware import IdempotencyMiddleware
from django_idempotency.http.plain import View, authenticates_itself, is_enrolled
from django_idempotency.stores import get_store

Messages = Iterator[checks.CheckMessage]
NamedView = tuple[str, View]


def named_views(patterns: Iterable[URLPattern | URLResolver], namespaces: tuple[str, ...] = ()) -> Iterator[NamedView]:
    """Yield the views of a URLconf with their view names, as ``ResolverMatch.view_name`` has them."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = (*namespaces, pattern.namespace) if pattern.namespace else namespaces
            yield from named_views(pattern.url_patterns, inner)
        else:
            yield ":".join((*namespaces, pattern.name or pattern.lookup_str)), pattern.callback


def check_policy(name: str, policy: Policy, view: Any) -> Messages:
    """Check what a policy says against the settings."""
    if policy.store not in settings.STORES:
        yield checks.Error(
            f"{name} names the store {policy.store!r}, which IDEMPOTENCY_STORES does not have.",
            obj=view,
            id="idempotency.E021",
        )
    elif policy.wait >= (policy.ttl or settings.ttl):
        yield checks.Error(
            f"{name} lets duplicates wait longer than outcomes are kept.", obj=view, id="idempotency.E023"
        )
    if policy.on_outage == "run" and policy.store in settings.STORES and get_store(policy.store).alias is not None:
        yield checks.Error(
            f"{name} is to run where its store cannot be reached, which is the database of its effects.",
            hint="Only of a RedisStore can that be asked; leave out Policy(on_outage=…).",
            obj=view,
            id="idempotency.E028",
        )
    if policy.body == "encrypted" and (missing := _missing_cipher()):
        yield checks.Error(
            f"{name} keeps its outcomes encrypted, but nothing can encrypt: {missing}",
            hint="pip install django-idempotency[encryption]",
            obj=view,
            id="idempotency.E040",
        )


def _missing_cipher() -> str:
    """Say why nothing can be encrypted, "" where it can."""
    try:
        _ = settings.vault
    except (ImproperlyConfigured, TypeError) as error:
        return str(error)
    return ""


def check_plain_views(views: Iterable[NamedView]) -> Messages:
    """Check the views that have the decorator or that the middleware enrols, and what should enrol them."""
    views = list(views)
    middleware = _middleware()
    yield from _check_order(middleware)
    yield from _check_patterns(views, middleware)
    seen: set[tuple[View, int]] = set()
    for name, view in views:
        policy = _policy(name, view, middleware)
        if policy and (view, id(policy)) not in seen:
            seen.add((view, id(policy)))
            yield from _check_view(name, view, policy, middleware)


def _policy(name: str, view: View, middleware: list[Any]) -> Policy | None:
    """Return the policy of a plain view; those with the mixin are checked as such."""
    if is_enrolled(view):
        decorated = getattr(view, "idempotency", None)
        return decorated if isinstance(decorated, Policy) else None
    return named_policy(view, name) if _position(middleware) is not None else None


def _check_view(name: str, view: View, policy: Policy, middleware: list[Any]) -> Messages:
    if policy.scope is None and authenticates_itself(view):
        yield checks.Error(
            f"{name} authenticates no earlier than it runs, so that the middleware leaves it alone.",
            hint="Use the mixin of django_idempotency.rest_framework, or add Policy(scope=…).",
            obj=view,
            id="idempotency.E025",
        )
    elif policy.scope is None and not any(_is_a(entry, AuthenticationMiddleware) for entry in middleware):
        yield checks.Error(
            f"{name} has neither authentication nor a scope, so that all its callers are refused.",
            hint="Add AuthenticationMiddleware to MIDDLEWARE, or Policy(scope=…).",
            obj=view,
            id="idempotency.E020",
        )
    yield from check_policy(name, policy, view)


def _check_order(middleware: list[Any]) -> Messages:
    position = _position(middleware)
    if position is None:
        return
    for entry in middleware[position + 1 :]:
        if _is_a(entry, SessionMiddleware, AuthenticationMiddleware) or hasattr(entry, "process_view"):
            yield checks.Error(
                f"IdempotencyMiddleware stands before {entry.__name__}, whose checks enrolled views would escape.",
                hint="Put IdempotencyMiddleware at the end of MIDDLEWARE.",
                id="idempotency.E024",
            )


def _check_patterns(views: list[NamedView], middleware: list[Any]) -> Messages:
    if settings.ENROLLED and _position(middleware) is None:
        yield checks.Error(
            "IDEMPOTENCY_ENROLLED enrols nothing: IdempotencyMiddleware is not in MIDDLEWARE.", id="idempotency.E026"
        )
    for pattern in settings.ENROLLED:
        if not any(fnmatchcase(name, pattern) for name, _ in views):
            yield checks.Warning(
                f"IDEMPOTENCY_ENROLLED has the pattern {pattern!r}, which no view of the URLconf matches.",
                id="idempotency.W027",
            )


def _middleware() -> list[Any]:
    """Return what MIDDLEWARE names; what cannot be imported is for Django to complain of."""
    found = []
    for path in django_settings.MIDDLEWARE:
        try:
            found.append(import_string(path))
        except ImportError:
            continue
    return found


def _position(middleware: list[Any]) -> int | None:
    return next((at for at, entry in enumerate(middleware) if _is_a(entry, IdempotencyMiddleware)), None)


def _is_a(entry: Any, *classes: type) -> bool:
    return isinstance(entry, type) and issubclass(entry, classes)

"""System checks: what is misspelt, unsafe or without effect is said before the first request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.urls import get_resolver

from django_idempotency.conf import PREFIX, SETTING_NAMES, settings
from django_idempotency.core.keys import KEY_FORMATS
from django_idempotency.core.policies import Policy
from django_idempotency.http.checks import check_plain_views, check_policy, named_views
from django_idempotency.jobs.checks import check_jobs
from django_idempotency.objects.checks import check_objects
from django_idempotency.reprocessing.checks import check_projections
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.stores import get_store
from django_idempotency.stores.caches import check_deployment
from django_idempotency.streams.checks import check_retention, check_streams
from django_idempotency.writes.checks import check_upserts

Messages = Iterator[checks.CheckMessage]


def register_all() -> None:
    """Register every check with Django."""
    checks.register(check_settings, "idempotency")
    checks.register(check_stores, "idempotency")
    checks.register(check_views, "idempotency")
    checks.register(check_contrib, "idempotency")
    checks.register(check_upserts, "idempotency")
    checks.register(check_jobs, "idempotency")
    checks.register(check_objects, "idempotency")
    checks.register(check_projections, "idempotency")
    checks.register(check_streams, "idempotency")
    checks.register(check_retention, "idempotency", deploy=True)
    checks.register(check_deployment, "idempotency", deploy=True)


def check_settings(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check names and values of the ``IDEMPOTENCY_*`` settings."""
    return [*_unknown_settings(), *_wrong_values()]


def _unknown_settings() -> Messages:
    for name in dir(django_settings):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in SETTING_NAMES:
            close = get_close_matches(name.removeprefix(PREFIX), SETTING_NAMES, n=1)
            yield checks.Error(
                f"There is no setting {name}.",
                hint=f"Did you mean {PREFIX}{close[0]}?" if close else None,
                id="idempotency.E001",
            )


def _wrong_values() -> Messages:
    rules: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
        ("TTL", "at least one second", lambda value: _seconds(value) >= 1),
        ("AUDIT_TTL", "at least one second", lambda value: _seconds(value) >= 1),
        ("ROLLUP_TTL", "at least one second", lambda value: _seconds(value) >= 1),
        ("JOB_RUNS_TTL", "at least one second", lambda value: _seconds(value) >= 1),
        ("OUTBOX_TTL", "at least one second", lambda value: _seconds(value) >= 1),
        ("INBOX_TTL", "at least one second", lambda value: _seconds(value) >= 1),
        ("BROKER_RETENTION", "None or at least one second", lambda value: value is None or _seconds(value) >= 1),
        ("BROKERS", "a dict of dicts", lambda value: isinstance(value, dict)),
        ("MAX_EVENT", "an integer, at least 1", lambda value: isinstance(value, int) and value >= 1),
        ("CLEANUP_INTERVAL", "at least one second", lambda value: _seconds(value) >= 1),
        ("ENCRYPTION_KEYS", "a tuple of secrets, newest first", lambda value: not value or _are_texts(value)),
        ("CIPHER", "a dotted path", lambda value: isinstance(value, str) and "." in value),
        ("MAX_WAIT", "not negative", lambda value: _seconds(value) >= 0),
        ("MAX_WAITERS", "an integer, not negative", lambda value: isinstance(value, int) and value >= 0),
        ("METRICS_MAX_OPERATIONS", "an integer, not negative", lambda value: isinstance(value, int) and value >= 0),
        ("MAX_BODY", "an integer, not negative", lambda value: isinstance(value, int) and value >= 0),
        ("HEADERS", "a tuple of at least one header name", _are_texts),
        ("SECRETS", "a tuple of secrets, newest first", lambda value: not value or _are_texts(value)),
        ("STORE_KEYS", "'plain' or 'digest'", lambda value: value in ("plain", "digest")),
        ("UNENROLLED", "'ignore' or 'refuse'", lambda value: value in ("ignore", "refuse")),
        ("ADMIN", "True or False", lambda value: isinstance(value, bool)),
        ("ENROLLED", "a dict of policies by patterns of view names", _are_policies),
        (
            "KEY_FORMAT",
            f"callable or one of {sorted(KEY_FORMATS)}",
            lambda value: callable(value) or value in KEY_FORMATS,
        ),
    )
    for name, wanted, is_right in rules:
        if not is_right(getattr(settings, name)):
            yield checks.Error(f"{PREFIX}{name} must be {wanted}.", id="idempotency.E002")


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else -1


def _are_texts(value: Any) -> bool:
    return bool(value) and isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value)


def _are_policies(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(pattern, str) and isinstance(policy, Policy) for pattern, policy in value.items()
    )


def check_stores(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that every store can be made, and let it check itself."""
    return [message for alias in settings.STORES for message in _check_store(alias)]


def _check_store(alias: str) -> Iterable[checks.CheckMessage]:
    try:
        return get_store(alias).check()
    except (ImproperlyConfigured, TypeError) as error:
        return [checks.Error(f"The store {alias!r} cannot be made: {error}", id="idempotency.E003")]


def check_views(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check the enrolled views of the URLconf."""
    if not getattr(django_settings, "ROOT_URLCONF", None):
        return []
    views = list(named_views(get_resolver().url_patterns))
    messages = [message for view in _enrolled_views(views) for message in _check_view(view)]
    return [*messages, *check_plain_views(views)] if _are_policies(settings.ENROLLED) else messages


def check_contrib(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that what is installed of ``contrib`` is named by its AppConfig: a bare module would do nothing."""
    return [
        checks.Error(
            f"{app.name} in INSTALLED_APPS does nothing.",
            hint="Name its AppConfig, such as django_idempotency.contrib.prometheus.PrometheusConfig.",
            id="idempotency.E090",
        )
        for app in apps.get_app_configs()
        if app.name.startswith("django_idempotency.contrib") and type(app) is AppConfig
    ]


@dataclass(frozen=True, slots=True)
class EnrolledView:
    """A view class as the URLconf configures it."""

    view_class: type[IdempotencyMixin]
    options: dict[str, Any]

    def get(self, name: str) -> Any:
        """Return an attribute as ``as_view()`` was told, else as the class has it."""
        return self.options.get(name, getattr(self.view_class, name, None))

    def overrides(self, method: str) -> bool:
        """Tell whether the view has a method of its own in place of the mixin's."""
        return getattr(self.view_class, method) is not getattr(IdempotencyMixin, method)


def _enrolled_views(views: Iterable[tuple[str, Any]]) -> Iterator[EnrolledView]:
    seen = set()
    for _, callback in views:
        view_class, options = getattr(callback, "cls", None), getattr(callback, "initkwargs", {})
        if isinstance(view_class, type) and issubclass(view_class, IdempotencyMixin):
            identity = (view_class, id(options.get("idempotency")), options.get("authentication_classes"))
            if identity not in seen:
                seen.add(identity)
                yield EnrolledView(view_class, options)


def _check_view(view: EnrolledView) -> Messages:
    name = f"{view.view_class.__module__}.{view.view_class.__qualname__}"
    policy: Policy | None = view.get("idempotency")
    if policy is None:
        return
    has_identity = view.get("authentication_classes") or policy.scope or view.overrides("get_idempotency_scope")
    if not has_identity:
        yield checks.Error(
            f"{name} has neither authentication nor a scope, so that all its callers would share their keys.",
            hint="Add authentication_classes, Policy(scope=…) or get_idempotency_scope().",
            obj=view.view_class,
            id="idempotency.E020",
        )
    yield from check_policy(name, policy, view.view_class)
    if policy.store in settings.STORES:
        yield from _check_alias(view, policy, name)


def _check_alias(view: EnrolledView, policy: Policy, name: str) -> Messages:
    queryset, alias = view.get("queryset"), get_store(policy.store).alias
    if queryset is None or alias is None:
        return
    written_to = router.db_for_write(queryset.model)
    if written_to != alias:
        yield checks.Warning(
            f"{name} writes to the database {written_to!r}, its idempotency store to {alias!r}: "
            "effect and outcome do not commit together.",
            hint="Name a store on the same database in Policy(store=…).",
            obj=view.view_class,
            id="idempotency.W022",
        )

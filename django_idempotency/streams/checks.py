"""System checks of brokers, consumers and projections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.core import checks
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models

from django_idempotency.conf import settings
from django_idempotency.streams.brokers import get_broker
from django_idempotency.streams.errors import BrokerUnavailable, UnknownTopic
from django_idempotency.streams.projections import Projection
from django_idempotency.streams.sinks import Sink, registry

Messages = Iterator[checks.CheckMessage]
_LONGEST_GROUP = 100


def check_streams(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check the brokers, and all that is consumed."""
    return [*_brokers(), *_twins(), *(message for sink in registry.all() for message in _sink(sink)), *_stated()]


def check_retention(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Ask the brokers how long they keep what is consumed (``--deploy``)."""
    return [message for sink in registry.all() if settings.broker_retention is None for message in _asked(sink)]


def _brokers() -> Messages:
    for alias in settings.BROKERS:
        try:
            yield from get_broker(alias).check(alias)
        except (ImproperlyConfigured, TypeError) as error:
            yield checks.Error(f"The broker {alias!r} cannot be made: {error}", id="idempotency.E120")


def _twins() -> Messages:
    for name, count in Counter(sink.name for sink in registry.all()).items():
        if count > 1:
            yield checks.Error(
                f"{count} consumers are {name}.", hint="Give each a group of its own.", id="idempotency.E121"
            )


def _sink(sink: Sink) -> Messages:
    if sink.broker not in settings.BROKERS:
        yield checks.Error(
            f"The consumer {sink.name} reads the broker {sink.broker!r}, which IDEMPOTENCY_BROKERS does not have.",
            obj=sink,
            id="idempotency.E122",
        )
    if not sink.topic or not sink.group or len(sink.group) > _LONGEST_GROUP:
        yield checks.Error(
            f"The consumer {sink.name} needs a topic, and a group of at most {_LONGEST_GROUP} characters.",
            obj=sink,
            id="idempotency.E123",
        )
    if isinstance(sink, Projection):
        yield from _projection(sink)


def _projection(projection: Projection) -> Messages:
    model: Any = getattr(projection, "model", None)
    if not (isinstance(model, type) and issubclass(model, models.Model)):
        yield checks.Error(f"{projection.name} has no model.", obj=projection, id="idempotency.E124")
        return
    try:
        is_unique = model._meta.get_field(projection.key).unique  # type: ignore[union-attr]
    except FieldDoesNotExist:
        is_unique = False
    if not is_unique:
        yield checks.Error(
            f"{projection.name}: key = {projection.key!r} is no unique field of {model._meta.label}.",
            hint="Two members would each insert a row for the same key.",
            obj=projection,
            id="idempotency.E124",
        )
    if type(projection).apply is Projection.apply:
        yield checks.Error(f"{projection.name} has no apply().", obj=projection, id="idempotency.E124")


def _stated() -> Messages:
    if registry.all() and settings.broker_retention is not None:
        yield from _compare("IDEMPOTENCY_BROKER_RETENTION", settings.broker_retention)


def _asked(sink: Sink) -> Messages:
    try:
        kept = get_broker(sink.broker).retention(sink.topic)
    except (ImproperlyConfigured, TypeError):
        return  # said already
    except (BrokerUnavailable, UnknownTopic) as error:
        yield checks.Warning(
            f"The broker {sink.broker!r} does not tell how long it keeps {sink.topic}: {error}",
            hint="State it: IDEMPOTENCY_BROKER_RETENTION.",
            id="idempotency.W126",
        )
        return
    if kept is not None:
        yield from _compare(f"the topic {sink.topic}", kept)


def _compare(whose: str, kept: timedelta) -> Messages:
    if kept > settings.inbox_ttl:
        age = "for ever" if kept == timedelta.max else f"for {kept}"
        yield checks.Warning(
            f"Records are kept {age} ({whose}), the inbox remembers for {settings.inbox_ttl}: what is read later than "
            "that is refused, be it new or not.",
            hint="Let IDEMPOTENCY_INBOX_TTL be longer than brokers keep records.",
            id="idempotency.W125",
        )

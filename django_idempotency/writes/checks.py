"""System checks of the models that are upserted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.apps import AppConfig, apps
from django.core import checks
from django.db import models

from django_idempotency.writes.mixins import UpsertMixin
from django_idempotency.writes.recipes import OPTION_NAMES, Problem, options_of, problems


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    id: str
    hint: str | None = None


_KINDS = {
    "key": _Kind(
        id="idempotency.E101",
        hint="Add a UniqueConstraint on these fields, without condition and expressions, and not deferrable.",
    ),
    "field": _Kind(id="idempotency.E102", hint="Name columns of the model itself."),
    "payload": _Kind(id="idempotency.E103"),
    "guard": _Kind(id="idempotency.E104", hint=f"The options are {', '.join(OPTION_NAMES)}."),
    "model": _Kind(id="idempotency.E105"),
}


def check_upserts(app_configs: Iterable[AppConfig] | None = None, **kwargs: object) -> list[checks.CheckMessage]:
    """Check the inner class ``Upsert`` of every model with the mixin."""
    configs = apps.get_app_configs() if app_configs is None else app_configs
    found = (model for config in configs for model in config.get_models() if issubclass(model, UpsertMixin))
    return [
        checks.Error(problem.text, hint=_KINDS[problem.kind].hint, obj=model, id=_KINDS[problem.kind].id)
        for model in found
        for problem in _problems(model)
    ]


def _problems(model: type[models.Model]) -> Iterator[Problem]:
    inner = getattr(model, "Upsert", None)
    for name in vars(inner) if inner else ():
        if not name.startswith("_") and name not in OPTION_NAMES:
            yield Problem("guard", f"{model._meta.label}: Upsert has no option {name!r}.")
    try:
        options = options_of(model)
    except ValueError as error:
        yield Problem("key", str(error))
    else:
        yield from problems(model, options)

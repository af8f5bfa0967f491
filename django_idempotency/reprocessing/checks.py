"""System checks of the projections that the project defines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from django_idempotency.reprocessing.projections import STRATEGIES, VersionedProjection, registered
from django_idempotency.reprocessing.sources import QuerySetSource

Projection = type[VersionedProjection]
Messages = Iterator[checks.CheckMessage]


def check_projections(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check every projection."""
    return list(check_all(registered()))


def check_all(projections: Iterable[Projection]) -> Messages:
    """Check these, and that no two share a name or a model."""
    projections = list(projections)
    yield from _check_twins("name", Counter(projection.name for projection in projections))
    models_of = (getattr(projection, "model", None) for projection in projections)
    yield from _check_twins("model", Counter(model.__qualname__ for model in models_of if isinstance(model, type)))
    for projection in projections:
        yield from _check(projection)


def _check_twins(what: str, counts: Counter[str]) -> Messages:
    for value, count in counts.items():
        if count > 1:
            message = f"{count} projections have the {what} {value}."
            yield checks.Error(message, hint=f"Give each a {what} of its own.", id="idempotency.E085")


def _check(projection: Projection) -> Messages:
    name = projection.name
    if projection.strategy not in STRATEGIES:
        yield _error(projection, "E080", f"{name}.strategy must be one of {STRATEGIES}, not {projection.strategy!r}.")
    model: Any = getattr(projection, "model", None)
    if not (isinstance(model, type) and issubclass(model, models.Model)):
        yield _error(projection, "E081", f"{name} has no model.")
        return
    if not isinstance(projection.version, int) or projection.version < 1:
        yield _error(projection, "E081", f"{name}.version must be a positive integer.")
    yield from _check_model(projection, model)
    yield from _check_building(projection)
    yield from _check_source(projection)


def _check_model(projection: Projection, model: type[models.Model]) -> Messages:
    meta = model._meta
    if meta.parents or meta.proxy or meta.many_to_many:
        yield _error(
            projection,
            "E083",
            f"{meta.label} needs one table of its own: no parents, no proxy, no many-to-many fields.",
        )
    if '"' in meta.db_table or "." in meta.db_table:
        yield _error(projection, "E083", f"{meta.label}.db_table must be a plain name, found by the search path.")
    if projection.strategy == "view" and meta.managed:
        yield _error(projection, "E083", f'{meta.label} reads a view: it needs managed = False, or strategy="rename".')


def _check_building(projection: Projection) -> Messages:
    method = "build" if projection.source is None else "apply"
    if getattr(projection, method) is getattr(VersionedProjection, method):
        what = "no source and no build()" if projection.source is None else "a source, but no apply()"
        yield _error(projection, "E084", f"{projection.name} has {what}.")


def _check_source(projection: Projection) -> Messages:
    if projection.source is None:
        return
    try:
        _ = projection.source.positions
    except FieldDoesNotExist as error:
        yield _error(
            projection, "E082", f"The source of {projection.name} is ordered by a field that is not there: {error}"
        )
    except TypeError as error:
        yield _error(projection, "E082", f"The source of {projection.name}: {error}")
    else:
        yield from _check_lag(projection, projection.source)


def _check_lag(projection: Projection, source: Any) -> Messages:
    if not isinstance(source, QuerySetSource):
        return
    if source.lag is not None and not isinstance(source.fields[0], models.DateTimeField):
        yield _error(projection, "E082", f"The source of {projection.name} has a lag, but no datetime in front.")
    if source.lag is None and isinstance(source.fields[0], models.DateTimeField):
        yield checks.Warning(
            f"The source of {projection.name} is ordered by a time without a lag: what is committed late is lost.",
            hint="Set lag=…, longer than any transaction, or order by a TransactionIdField.",
            obj=projection,
            id="idempotency.W086",
        )


def _error(projection: Projection, number: str, message: str) -> checks.CheckMessage:
    return checks.Error(message, obj=projection, id=f"idempotency.{number}")

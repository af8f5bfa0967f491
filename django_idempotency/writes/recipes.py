"""How the rows of a model are upserted: which fields name a row, which make its payload, what guards it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from django_idempotency.writes.targets import is_unique

if TYPE_CHECKING:
    Field = models.Field[Any, Any]
else:
    Field = models.Field
#: The fields of UpsertMixin; a model that has both is upserted with them.
HASH_FIELD, REVISION_FIELD = "payload_hash", "revision"
GUARDS = ("hash", "columns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for, by names of fields; None where the model is to tell."""

    key: tuple[str, ...]
    payload: tuple[str, ...] | None = None
    guard: str | None = None
    hash_version: int = 1
    version: str | None = None
    revision: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """All names of fields."""
        single = (name for name in (self.version, self.revision) if name)
        return (*self.key, *(self.payload or ()), *single)


OPTION_NAMES = tuple(Options.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The same by fields, and valid. ``hash`` and ``revision`` are None where the model has no such columns."""

    model: type[models.Model]
    key: tuple[Field, ...]
    payload: tuple[Field, ...]
    hash: Field | None
    hash_version: int
    version: Field | None
    revision: Field | None

    @property
    def primary_key(self) -> tuple[Field, ...]:
        """The columns of the primary key."""
        return tuple(self.model._meta.pk_fields)

    @property
    def columns(self) -> list[Field]:
        """What is inserted. The database gives automatic keys, but for those that rows are looked up by."""
        return [field for field in self.model._meta.concrete_fields if self._is_inserted(field)]

    @property
    def touched(self) -> list[Field]:
        """What an update takes from the new row, the revision aside: also the times of the last change."""
        clocks = [field for field in self.model._meta.concrete_fields if getattr(field, "auto_now", False)]
        marks = [field for field in (self.hash, self.version) if field and field not in self.payload]
        return [*self.payload, *marks, *clocks]

    def _is_inserted(self, field: Field) -> bool:
        return not field.generated and (not isinstance(field, models.AutoField) or field in self.key)


def options_of(model: type[models.Model], **given: Any) -> Options:
    """Return what the inner class ``Upsert`` of a model asks for, and what is given in its place.

    Raises ValueError where nothing tells the key.
    """
    inner = getattr(model, "Upsert", None)
    values = {name: getattr(inner, name) for name in OPTION_NAMES if hasattr(inner, name)}
    values.update((name, value) for name, value in given.items() if value is not None)
    for name in ("key", "payload"):
        if values.get(name) is not None:
            values[name] = names_of(values[name])
    if not values.get("key"):
        raise ValueError(f"{model._meta.label} is upserted without a key: which fields name a row?")
    return Options(**values)


def names_of(value: Iterable[str] | str) -> tuple[str, ...]:
    """Return names as a tuple, also where it is one alone."""
    return (value,) if isinstance(value, str) else tuple(value)


@lru_cache(maxsize=256)
def recipe(model: type[models.Model], options: Options) -> Recipe:
    """Return the recipe of valid options. Raises ValueError with the first problem of others."""
    for problem in problems(model, options):
        raise ValueError(problem.text)
    fields = _fields(model)
    guard = options.guard or default_guard(model)
    revision = options.revision or (REVISION_FIELD if _has_mark(model) else None)
    return Recipe(
        model=model,
        key=tuple(fields[name] for name in options.key),
        payload=tuple(fields[name] for name in options.payload or default_payload(model, options)),
        hash=fields[HASH_FIELD] if guard == "hash" else None,
        hash_version=options.hash_version,
        version=fields[options.version] if options.version else None,
        revision=fields[revision] if revision else None,
    )


@lru_cache(maxsize=256)
def insert_recipe(model: type[models.Model], key: tuple[str, ...]) -> Recipe:
    """Return the recipe of rows that are never updated. Raises ValueError for a key that makes no sense."""
    for problem in (*_wrong_tables(model), *_wrong_keys(model, key, key)):
        raise ValueError(problem.text)
    fields = tuple(_fields(model)[name] for name in key)
    return Recipe(model=model, key=fields, payload=(), hash=None, hash_version=1, version=None, revision=None)


def default_guard(model: type[models.Model]) -> str:
    """Return the guard of a model that names none: its columns, unless there is one for the hash."""
    return "hash" if _has_mark(model) else "columns"


def default_payload(model: type[models.Model], options: Options) -> tuple[str, ...]:
    """Return what is not key, mark, version, clock or given by the database."""
    special = {*options.key, options.version, options.revision}
    if _has_mark(model):
        special |= {HASH_FIELD, REVISION_FIELD}
    return tuple(
        field.name
        for field in model._meta.concrete_fields
        if field.name not in special and field not in model._meta.pk_fields and not _is_given(field)
    )


def _has_mark(model: type[models.Model]) -> bool:
    return {HASH_FIELD, REVISION_FIELD} <= {field.name for field in model._meta.concrete_fields}


def _is_given(field: Field) -> bool:
    return field.generated or getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


def _fields(model: type[models.Model]) -> dict[str, Field]:
    named = {field.name: field for field in model._meta.concrete_fields}
    return named | {"pk": named[model._meta.pk.name]} if model._meta.pk.name in named else named


@dataclass(frozen=True, slots=True)
class Problem:
    """Why options make no sense, and the kind of reason: ``field``, ``key``, ``payload``, ``guard`` or ``model``."""

    kind: str
    text: str


def problems(model: type[models.Model], options: Options) -> Iterator[Problem]:
    """Tell what is wrong with options, the worst first."""
    found = [*_wrong_tables(model), *_wrong_keys(model, options.key, options.named), *_wrong_guards(model, options)]
    yield from found
    if not any(problem.kind in ("model", "field") for problem in found):
        yield from _wrong_payload(model, options, _fields(model))


def _wrong_tables(model: type[models.Model]) -> Iterator[Problem]:
    if any(parent._meta.concrete_model is not model._meta.concrete_model for parent in model._meta.all_parents):
        label = model._meta.label
        yield Problem("model", f"{label} spans several tables (multi-table inheritance); one statement writes to one.")


def _wrong_keys(model: type[models.Model], key: tuple[str, ...], named: tuple[str, ...]) -> Iterator[Problem]:
    label, fields = model._meta.label, _fields(model)
    unknown = [name for name in named if name not in fields]
    yield from (_unknown(label, name, fields) for name in unknown)
    if not unknown and not is_unique(model, [fields[name] for name in key]):
        yield Problem("key", f"{label} has no unique constraint on exactly {', '.join(key)}.")


def _unknown(label: str, name: str, fields: Iterable[str]) -> Problem:
    close = get_close_matches(name, fields, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return Problem("field", f"{label} has no column {name!r}.{hint}")


def _wrong_guards(model: type[models.Model], options: Options) -> Iterator[Problem]:
    label, guard = model._meta.label, options.guard or default_guard(model)
    if guard not in GUARDS:
        yield Problem("guard", f"{label}: guard must be 'hash' or 'columns', not {guard!r}.")
    if guard == "hash":
        try:
            model._meta.get_field(HASH_FIELD)
        except FieldDoesNotExist:
            yield Problem("guard", f"{label} has no {HASH_FIELD}: inherit from UpsertMixin, or use guard='columns'.")
    if not isinstance(options.hash_version, int) or options.hash_version < 1:
        yield Problem("guard", f"{label}: hash_version must be a positive integer.")


def _wrong_payload(model: type[models.Model], options: Options, fields: dict[str, Field]) -> Iterator[Problem]:
    label, payload = model._meta.label, options.payload
    if not (default_payload(model, options) if payload is None else payload):
        yield Problem("payload", f"{label} has no payload to compare or to update: use get_or_insert().")
    for name in payload or ():
        if _is_given(fields[name]):
            yield Problem("payload", f"{label}.{name} is set anew each time, so that no payload is ever the same.")
        if name in options.key or fields[name] in model._meta.pk_fields:
            yield Problem("payload", f"{label}.{name} names the row; it cannot be a part of what is updated.")
        if name in (HASH_FIELD, REVISION_FIELD, options.revision):
            yield Problem("payload", f"{label}.{name} tells of the payload; it cannot be a part of it.")

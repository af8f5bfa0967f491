"""The arguments of a job: what its key is made of, and whether two calls ask for the same."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from string import Formatter
from typing import Any
from uuid import UUID

from django.utils.duration import duration_iso_string

from django_idempotency.core.fingerprints import canonical_json, content_digest
from django_idempotency.core.keys import MAX_KEY_LENGTH
from django_idempotency.exceptions import InvalidKey

RUN = "run"
Key = str | Callable[..., str]

_left_out: list[type] = []
#: What Django hands to its tasks, by name: a worker need not have what could tell us of it.
_LEFT_OUT = frozenset({"django.tasks.base.TaskContext", "django_tasks.base.TaskContext"})


def leave_out(kind: type) -> None:
    """Have instances of a type, such as the context that a queue hands to its tasks, not count as arguments."""
    if kind not in _left_out:
        _left_out.append(kind)


class CallSignature:
    """How a job is called. Raises ValueError for a key that names what is not among the arguments."""

    def __init__(self, function: Callable[..., Any], key: Key, exclude: Collection[str]) -> None:
        whole = inspect.signature(function)
        parameters = whole.parameters
        self.takes_run = RUN in parameters
        kept = [parameter for name, parameter in parameters.items() if name != RUN]
        self.public = whole.replace(parameters=kept)
        self._key, self._exclude = key, frozenset(exclude) | {_first_self(kept)}
        self._open = next((one.name for one in kept if one.kind is one.VAR_KEYWORD), None)
        if self.takes_run and parameters[RUN].kind in (parameters[RUN].POSITIONAL_ONLY, parameters[RUN].VAR_POSITIONAL):
            raise ValueError(f"The parameter {RUN!r} must be one that can be given by name.")
        for name in self._fields:
            if not self._open and name not in self.public.parameters:
                raise ValueError(f"The key {key!r} names {name!r}, which is none of the arguments.")

    @cached_property
    def _fields(self) -> list[str]:
        if callable(self._key):
            return []
        names = [name for _, name, _, _ in Formatter().parse(self._key) if name is not None]
        if not names:
            raise ValueError(f"The key {self._key!r} names no argument: all calls would be the same.")
        return [name.replace("[", ".").partition(".")[0] for name in names]

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name, defaults included. Raises TypeError as the call would."""
        bound = self.public.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def key_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], bound: Mapping[str, Any]) -> str:
        """Return the business key of a call. Raises InvalidKey where it is empty, too long or not printable."""
        if callable(self._key):
            key = str(self._key(*args, **kwargs))
        else:
            key = _Filled().format(self._key, **{**bound, **(bound[self._open] if self._open else {})})
        if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isprintable():
            raise InvalidKey(f"The key of a job must have 1 to {MAX_KEY_LENGTH} printable characters.")
        return key

    def digest_of(self, bound: Mapping[str, Any]) -> bytes:
        """Return a digest of the arguments that count: equal JSON is equal. Raises TypeError for what is no JSON."""
        named = {name: value for name, value in bound.items() if name not in self._exclude}
        counted = {name: value for name, value in named.items() if not _is_left_out(value)}
        try:
            text = json.dumps(counted, default=_plain, allow_nan=False)
            return content_digest([b"django-idempotency job 1", canonical_json(text.encode())])
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"The arguments of a job must be what JSON can say, or be left out by fingerprint_exclude: {error}"
            ) from error


class _Filled(Formatter):
    """A template none of whose fields may be empty: many calls would share such a key."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        value, first = super().get_field(field_name, args, kwargs)
        if value is None or value == "":
            raise InvalidKey(f"The key of the job needs {field_name!r}, which is empty.")
        return value, first


def _is_left_out(value: Any) -> bool:
    kind = type(value)
    return isinstance(value, tuple(_left_out)) or f"{kind.__module__}.{kind.__qualname__}" in _LEFT_OUT


def _first_self(parameters: list[inspect.Parameter]) -> str:
    return "self" if parameters and parameters[0].name == "self" else ""


def _plain(value: Any) -> Any:
    """Return a value as the serializers of queues would send it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_iso_string(value)
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    hint = ": pass its primary key" if hasattr(value, "_meta") and hasattr(value, "pk") else ""
    raise TypeError(f"{type(value).__name__} is not JSON{hint}")

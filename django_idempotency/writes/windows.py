"""Windows: for a time, events without a key are told apart by what is in them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar, get_args

from django.db import NotSupportedError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.conf import settings
from django_idempotency.exceptions import Duplicate
from django_idempotency.writes.answers import tell, tell_all
from django_idempotency.writes.entries import Entries
from django_idempotency.writes.intervals import Intervals
from django_idempotency.writes.models import DedupEntry, DedupInterval
from django_idempotency.writes.payloads import Key, Recipe

T = TypeVar("T")
P = ParamSpec("P")

Mode = Literal["fixed", "sliding", "event_time"]
Reaction = Literal["skip", "flag", "raise"]
_LONGEST_NAME = 100


class Split(NamedTuple, Generic[T]):
    """Payloads in their order: those to handle, and those that were seen before."""

    fresh: list[T]
    duplicates: list[T]


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupWindow:
    """Accepts a payload once within ``ttl``, told by the named ``fields`` of it, for sources that send no keys.

    ``mode``: ``fixed`` counts the ttl from the payload that was accepted, ``sliding`` from the last one of its like,
    ``event_time`` from the times of the events, in whichever order they arrive; ``lateness`` (the ttl by default) is
    how much longer than the ttl those are remembered. ``on_duplicate``: ``skip``, ``flag`` (let it through and count
    it) or ``raise``. ``track_hits`` counts duplicates, which makes each of them a write. ``using`` is the database
    alias, by default the one that the routers give; the effect must be written there too. Raises ValueError.
    """

    name: str = field(kw_only=False)
    ttl: timedelta
    fields: Sequence[str]
    mode: Mode = "fixed"
    on_duplicate: Reaction = "skip"
    track_hits: bool = False
    lateness: timedelta | None = None
    using: str | None = None

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(f"DedupWindow({self.name!r}): {problem}")

    @property
    def alias(self) -> str:
        """The database alias of its rows."""
        return self.using or router.db_for_write(DedupInterval if self.mode == "event_time" else DedupEntry)

    @property
    def lets_duplicates_pass(self) -> bool:
        """Whether duplicates are handled, too."""
        return self.on_duplicate == "flag"

    def first(self, payload: Any, *, occurrence: int = 1, at: datetime | None = None) -> bool:
        """Tell whether to handle a payload. To be called in the transaction of its effect, and so rolled back with it.

        ``occurrence``: it is the n-th of its equals in one delivery. ``at``: the time of the event, or in the other
        modes a clock for tests. Raises Duplicate if the window says so, ValueError for a payload that lacks a field,
        TransactionManagementError outside of ``transaction.atomic()``.
        """
        key, is_first = self._judge_one(payload, occurrence, at)
        tell(self, key, is_first)
        return self._passes(key, is_first)

    def split(
        self,
        payloads: Iterable[T],
        *,
        counted: bool = False,
        at: datetime | Callable[[T], datetime] | None = None,
    ) -> Split[T]:
        """Judge many at once, as ``first`` does one; equal ones among them are duplicates of each other.

        ``counted``: they are not, but the first, second … of their kind, as in a file that is delivered as a whole.
        With ``flag`` the duplicates are among the fresh ones, too.
        """
        items, started = list(payloads), time.monotonic()
        keys = self._keys(items, self._counted(items) if counted else [1] * len(items))
        times = [at(item) if callable(at) else at for item in items]
        with self._undone_if_refused():
            accepted = self._accept(keys, times)
            tell_all(self, sum(accepted), len(accepted), time.monotonic() - started)
            passed = [self._passes(key, is_first) for key, is_first in zip(keys, accepted, strict=True)]
        return Split(
            [item for item, passes in zip(items, passed, strict=True) if passes],
            [item for item, is_first in zip(items, accepted, strict=True) if not is_first],
        )

    def once(
        self,
        *,
        payload: Callable[P, Any],
        occurrence: Callable[P, int] | None = None,
        at: Callable[P, datetime] | None = None,
    ) -> Callable[[Callable[P, T]], Callable[P, T | None]]:
        """Decorate a function that handles a payload, which ``payload`` finds in its arguments.

        It runs in a transaction with the window; a duplicate is not handled and returns None. Raises TypeError for
        coroutine functions: no transaction spans their awaits.
        """

        def decorate(function: Callable[P, T]) -> Callable[P, T | None]:
            if iscoroutinefunction(function):
                raise TypeError("once() needs a synchronous function, to be called through sync_to_async.")

            @wraps(function)
            def handle(*args: P.args, **kwargs: P.kwargs) -> T | None:
                found = payload(*args, **kwargs)
                number = occurrence(*args, **kwargs) if occurrence else 1
                moment = at(*args, **kwargs) if at else None
                with transaction.atomic(using=self.alias):
                    return self._handle(lambda: function(*args, **kwargs), *self._judge_one(found, number, moment))

            return handle

        return decorate

    def _handle(self, run: Callable[[], T], key: Key, is_first: bool) -> T | None:
        started = time.monotonic()
        result = run() if self._passes(key, is_first) else None
        tell(self, key, is_first, time.monotonic() - started)
        return result

    def _judge_one(self, payload: Any, occurrence: int, at: datetime | None) -> tuple[Key, bool]:
        keys = self._keys([payload], [occurrence])
        return keys[0], self._accept(keys, [at])[0]

    def _keys(self, payloads: Sequence[Any], occurrences: Sequence[int]) -> list[Key]:
        recipe = Recipe(self.name, tuple(sorted(self.fields)))
        return recipe.keys(payloads, occurrences, [secret for _, secret in settings.keyring.secrets])

    def _counted(self, payloads: Sequence[Any]) -> list[int]:
        seen: Counter[Key] = Counter()
        numbers = []
        for key in self._keys(payloads, [1] * len(payloads)):
            seen[key] += 1
            numbers.append(seen[key])
        return numbers

    def _accept(self, keys: Sequence[Key], times: Sequence[datetime | None]) -> list[bool]:
        connection = self._connection()
        if any(at is not None and at.tzinfo is None for at in times):
            raise ValueError("at= must be aware of its time zone.")
        if self.mode == "event_time":
            events = [(key, at) for key, at in zip(keys, times, strict=True) if at is not None]
            if len(events) < len(keys):
                raise ValueError(f"The window {self.name!r} goes by the time of the event: at= is missing.")
            lateness = self.ttl if self.lateness is None else self.lateness
            intervals = Intervals(connection, self.name, self.ttl, lateness=lateness)
            return _firsts(intervals.accept(events), events)
        if len(set(times)) > 1:
            raise ValueError(f"The window {self.name!r} goes by the time of arrival, which is one for all.")
        entries = Entries(
            connection,
            self.name,
            self.ttl,
            slides=self.mode == "sliding",
            tracks=self.track_hits or self.lets_duplicates_pass,
            at=times[0] if times else None,
        )
        return _firsts(entries.accept(keys), keys)

    def _connection(self) -> BaseDatabaseWrapper:
        connection = connections[self.alias]
        if connection.vendor not in ("postgresql", "sqlite"):
            raise NotSupportedError("Windows need PostgreSQL or SQLite.")
        if connection.get_autocommit():
            raise transaction.TransactionManagementError(
                f"The window {self.name!r} must be asked inside transaction.atomic(using={self.alias!r}), "
                "together with what is done about the payload: the one without the other would be lost or done twice."
            )
        return connection

    def _undone_if_refused(self) -> AbstractContextManager[Any]:
        """Where one duplicate refuses them all, whoever catches that must not find the others accepted."""
        is_strict = self.on_duplicate == "raise" and not self._connection().get_autocommit()
        return transaction.atomic(using=self.alias) if is_strict else nullcontext()

    def _passes(self, key: Key, is_first: bool) -> bool:
        if not is_first and self.on_duplicate == "raise":
            raise Duplicate(window=self.name, digest=key[0])
        return is_first or self.lets_duplicates_pass


def _firsts(accepted: set[T], sightings: Sequence[T]) -> list[bool]:
    """Tell of each sighting whether it was accepted, which its repetition was not."""
    left = set(accepted)
    answers = []
    for sighting in sightings:
        answers.append(sighting in left)
        left.discard(sighting)
    return answers


def _problems(window: DedupWindow) -> Iterable[str]:
    """Yield what makes no sense about a window."""
    if not window.name or len(window.name) > _LONGEST_NAME:
        yield f"a name has 1 to {_LONGEST_NAME} characters."
    if isinstance(window.fields, str) or not window.fields or not all(isinstance(name, str) for name in window.fields):
        yield "fields are the names of those that make two payloads the same, at least one."
    if window.ttl <= timedelta(0) or (window.lateness or timedelta(0)) < timedelta(0):
        yield "ttl must be positive, lateness not negative."
    for value, choices in ((window.mode, get_args(Mode)), (window.on_duplicate, get_args(Reaction))):
        if value not in choices:
            yield f"{value!r} is none of {', '.join(choices)}."
    if window.lateness is not None and window.mode != "event_time":
        yield "lateness is about event_time alone."
    if window.mode == "event_time" and (window.track_hits or window.on_duplicate == "flag"):
        yield "event_time does not count duplicates: on_duplicate is skip or raise, without track_hits."

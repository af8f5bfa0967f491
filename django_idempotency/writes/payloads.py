"""When two payloads are equal: the chosen fields in one canonical form, and keyed digests of that.

Digests are keyed as fingerprints are: who can read the table cannot try out payloads, most of which are easy to guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation, Overflow
from enum import Enum
from hashlib import blake2b
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

VERSION = 1
#: What a payload is known by: its digest under each secret, the newest first.
Key = tuple[bytes, ...]

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Overflow])
_SMALL = 10**15


@dataclass(frozen=True, slots=True)
class Recipe:
    """How payloads of one window are reduced to digests. ``fields`` are sorted, so that their order does not matter."""

    name: str
    fields: tuple[str, ...]

    def keys(self, payloads: Sequence[Any], occurrences: Sequence[int], secrets: Sequence[bytes]) -> list[Key]:
        """Return the key of each payload, as the n-th of its equals. Raises TypeError, ValueError."""
        texts = [
            ascii((occurrence, values)).encode()
            for occurrence, values in zip(occurrences, self._values(payloads), strict=True)
        ]
        prefix = ascii(("window", VERSION, self.name, self.fields)).encode()
        # The hash that takes a key by itself costs a third of an HMAC.
        seeds = [blake2b(prefix, key=secret, digest_size=32) for secret in secrets]
        return list(zip(*([_finish(seed, text) for text in texts] for seed in seeds), strict=True))

    def _values(self, payloads: Iterable[Any]) -> Iterator[list[Any]]:
        """Yield the canonical values of the fields."""
        # One name more than needed, since a getter of a single one returns no tuple.
        of_mapping, of_object = (kind(*self.fields, self.fields[0]) for kind in (itemgetter, attrgetter))
        try:
            for payload in payloads:
                is_mapping = type(payload) is dict or isinstance(payload, Mapping)
                values = (of_mapping if is_mapping else of_object)(payload)[:-1]
                yield [value if type(value) in _PLAIN else canonical(value) for value in values]
        except (KeyError, AttributeError) as error:
            raise ValueError(f"The payload lacks a field of the window {self.name!r}: {error}") from error


def _finish(seed: Any, text: bytes) -> bytes:
    digest = seed.copy()
    digest.update(text)
    result: bytes = digest.digest()
    return result


def canonical(value: Any) -> Any:
    """Return what has an equal ``ascii()`` for equal values, and another one for others.

    Numbers are compared by their value, whatever their type; so are moments, whatever their time zone. Texts are not
    normalised. Raises ValueError for NaN, infinities and mappings whose names are no texts; TypeError for objects.
    """
    if type(value) is int and -_SMALL < value < _SMALL:
        return value
    known = _FORMS.get(type(value))
    if known is not None:
        return known(value)
    for kind, form in _FORMS.items():
        if isinstance(value, kind):
            return form(value)
    raise TypeError(f"A payload cannot hold {type(value).__name__}: name fields of plain values.")


def _same(value: Any) -> Any:
    return value


def _number(value: Any) -> Any:
    """Return an integer where it is a short one, else the one spelling of a Decimal."""
    if isinstance(value, int) and -_SMALL < value < _SMALL:
        return int(value)
    # A float is taken for the number that it is written as, since that is what the source has sent.
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise ValueError(f"{value!r} is no number that could be compared.")
    exact = _EXACT.normalize(exact)
    if exact and (exact.copy_abs() >= _SMALL or exact != exact.to_integral_value()):
        return exact
    return int(exact)


def _moment(value: datetime) -> tuple[str, str]:
    if value.tzinfo is None:
        return ("local time", value.isoformat())
    return ("moment", value.astimezone(UTC).isoformat())


def _mapping(value: Mapping[Any, Any]) -> tuple[str, Any]:
    if not all(isinstance(name, str) for name in value):
        raise ValueError("The names in a mapping must be texts.")
    return ("mapping", sorted([str.__str__(name), canonical(member)] for name, member in value.items()))


#: In the order of their precedence: subclasses stand before their bases. Tuples occur in none of the plain values.
_FORMS: dict[type, Callable[[Any], Any]] = {
    bool: _same,
    type(None): _same,
    str: str.__str__,
    int: _number,
    float: _number,
    Decimal: _number,
    datetime: _moment,
    date: lambda value: ("date", value.isoformat()),
    time: lambda value: ("time", value.isoformat()),
    timedelta: lambda value: ("duration", value // timedelta(microseconds=1)),
    UUID: lambda value: ("uuid", value.hex),
    Enum: lambda value: canonical(value.value),
    bytes: bytes,
    memoryview: bytes,
    Mapping: _mapping,
    list: lambda value: [canonical(item) for item in value],
    tuple: lambda value: [canonical(item) for item in value],
}
_PLAIN = frozenset({str, bool, type(None)})

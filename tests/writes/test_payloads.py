"""Equal payloads have equal keys, others have others, whatever the types that a source's values are read into."""

from __future__ import annotations

import enum
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
from django.db.models import TextChoices
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.writes.payloads import Key, Recipe, canonical

SECRETS = (b"new" * 10, b"old" * 10)


class Kind(TextChoices):
    CARD = "card", "Card"


class Number(enum.Enum):
    ONE = 1


def key(value: Any, *, name: str = "w", occurrence: int = 1, secrets: tuple[bytes, ...] = SECRETS) -> Key:
    return Recipe(name, ("value",)).keys([{"value": value}], [occurrence], secrets)[0]


EQUAL = [
    (1, 1.0, Decimal("1"), Decimal("1.00"), Decimal("1E0"), Decimal("10E-1"), Number.ONE),
    (0, -0.0, Decimal("-0"), Decimal("0E+9")),
    (0.1, Decimal("0.1"), Decimal("0.10")),
    (10**15, Decimal("1E15"), 1e15, Decimal(10) ** 15),
    (10**40, Decimal("1E40"), Decimal("1" + "0" * 40)),
    ("card", Kind.CARD),
    (
        datetime(2026, 3, 1, 12, tzinfo=UTC),
        datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))),
    ),
    ([1, "a"], (Decimal("1.0"), "a")),
    ({"a": 1, "b": 2.0}, OrderedDict(b=2, a=Decimal("1.0"))),
    (b"x", memoryview(b"x")),
    (timedelta(days=1), timedelta(hours=24)),
]
DIFFERENT = [
    None,
    True,
    False,
    "True",
    1,
    0,
    "1",
    "",
    b"1",
    0.1,
    Decimal("0.1000000000000000000000000000000000001"),
    10**15,
    10**15 + 1,
    10**40,
    10**40 + 1,
    datetime(2026, 3, 1, 12, tzinfo=UTC),
    datetime(2026, 3, 1, 12),
    "2026-03-01T12:00:00+00:00",
    date(2026, 3, 1),
    "2026-03-01",
    time(12),
    timedelta(1),
    timedelta(microseconds=1),
    ["date", "2026-03-01"],
    [],
    {},
    [[]],
    ["a", "b"],
    ["a, b"],
    ["b", "a"],
    {"a": "b"},
    ["mapping", [["a", "b"]]],
    uuid.UUID(int=1),
    uuid.UUID(int=1).hex,
    "é",
    "e\u0301",
    "\ud800",
]


@pytest.mark.parametrize("values", EQUAL, ids=lambda values: repr(values[0]))
def test_one_value_has_one_key_however_it_is_written(values: tuple[Any, ...]) -> None:
    assert len({key(value) for value in values}) == 1


def test_different_values_have_different_keys() -> None:
    for one, other in combinations(DIFFERENT, 2):
        assert key(one) != key(other), (one, other)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def told_apart(value: Any) -> Any:
    """Return what Python compares as a canonical form should: booleans are no numbers, lists may hold either."""
    if isinstance(value, bool | str) or value is None:
        return (type(value), value)
    if isinstance(value, list):
        return ("list", [told_apart(item) for item in value])
    if isinstance(value, dict):
        return ("dict", {name: told_apart(item) for name, item in value.items()})
    return ("number", value)


@given(PLAIN, PLAIN)
def test_keys_are_equal_exactly_where_values_are(one: Any, other: Any) -> None:
    assert (ascii(canonical(one)) == ascii(canonical(other))) is (told_apart(one) == told_apart(other))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("sNaN"), {1: "a"}])
def test_what_cannot_be_compared_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"compared|texts"):
        key(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, [object()], Recipe])
def test_objects_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="plain values"):
        key(value)


def test_huge_exponents_cost_nothing() -> None:
    assert key(Decimal("1E+999999999")) != key(Decimal("1E-999999999"))


def test_windows_secrets_and_occurrences_have_keys_of_their_own() -> None:
    known = key("a")
    assert len(known) == 2
    assert [len(digest) for digest in known] == [32, 32]
    others = [key("a", name="other"), key("a", occurrence=2), key("a", secrets=SECRETS[::-1])]
    assert all(known != other for other in others)
    assert known == others[2][::-1]
    assert key("a", secrets=SECRETS[1:]) == known[1:]


@dataclass
class Booking:
    account: str
    amount: Decimal


def test_fields_are_found_in_mappings_and_objects_alike() -> None:
    recipe = Recipe("w", ("account", "amount"))
    payloads = [
        {"amount": 5, "account": "a", "memo": "x"},
        Booking("a", Decimal("5.00")),
        OrderedDict(account="a", amount=5),
    ]
    assert len(set(recipe.keys(payloads, [1, 1, 1], SECRETS))) == 1


@pytest.mark.parametrize("payload", [{"account": "a"}, object()])
@pytest.mark.parametrize("fields", [("amount",), ("account", "amount")])
def test_a_payload_that_lacks_a_field_is_refused(payload: Any, fields: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="lacks a field of the window 'w'"):
        Recipe("w", fields).keys([payload], [1], SECRETS)

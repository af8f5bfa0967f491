"""Outcomes."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_idempotency.core.outcomes import Outcome

texts = st.text(st.sampled_from("ab: "), max_size=3)
outcomes = st.builds(
    Outcome,
    status=st.sampled_from([200, 201, 204]),
    headers=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    body=st.binary(max_size=4),
)


def lines(outcome: Outcome) -> list[str]:
    return [f"{name}: {value}" for name, value in outcome.headers]


@settings(max_examples=250, deadline=None, database=None)
@given(one=outcomes, other=outcomes)
@example(one=Outcome(status=200, headers=(("a", "b"),), body=b""), other=Outcome(status=200, body=b"a: b"))
def test_the_hash_tells_outcomes_apart(one: Outcome, other: Outcome) -> None:
    equal = (one.status, lines(one), one.body) == (other.status, lines(other), other.body)
    assert (one.hash == other.hash) == equal
    assert len(one.hash) == 32


def test_an_outcome_without_a_body_can_be_hashed() -> None:
    assert Outcome(status=201, body=None).hash == Outcome(status=201, body=b"").hash

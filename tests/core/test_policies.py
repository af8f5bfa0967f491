"""Policies."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest

from django_idempotency import Policy
from django_idempotency.core.policies import NEVER_KEPT


def test_a_policy_is_a_frozen_value() -> None:
    assert Policy(methods=["post"]) == Policy(methods={"POST"})
    with pytest.raises(FrozenInstanceError):
        Policy().required = True  # type: ignore[misc]


def test_names_of_methods_and_headers_are_compared_without_case() -> None:
    policy = Policy(methods=("post", "Put"), headers=("X-Total",))
    assert policy.methods == {"POST", "PUT"}
    assert policy.headers == {"x-total"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ttl": timedelta(0)}, "ttl"),
        ({"ttl": timedelta(milliseconds=999)}, "ttl"),
        ({"ttl": timedelta(seconds=-1)}, "ttl"),
        ({"wait": timedelta(seconds=-1)}, "wait"),
        ({"retry_after": 0}, "retry_after"),
        ({"conflict_retries": -1}, "conflict_retries"),
        ({"max_body": -1}, "max_body"),
        ({"headers": ["Set-Cookie"]}, "set-cookie"),
        ({"headers": ["Retry-After", "X-Total"]}, "retry-after"),
        ({"keep": "everything"}, "keep"),
        ({"body": "in a safe"}, "body"),
        ({"on_outage": "pray"}, "on_outage"),
        ({"on_outage": "run", "claim": "lease"}, "on_outage"),
        ({"key_format": "guid"}, "key_format"),
    ],
)
def test_a_policy_that_cannot_hold_is_refused_when_it_is_made(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Policy(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": timedelta(seconds=1)},
        {"wait": timedelta(0), "retry_after": 1, "conflict_retries": 0, "max_body": 0},
        {"key_format": str.isdigit},
        {"key_format": "any"},
    ],
)
def test_the_smallest_values_are_let_in(options: dict[str, Any]) -> None:
    policy = Policy(**options)
    assert {name: getattr(policy, name) for name in options} == options


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(TypeError, match="requierd"):
        Policy(requierd=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("keep", ["success", "returned", "raised"])
@pytest.mark.parametrize("raised", [True, False])
@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 599, *sorted(NEVER_KEPT)])
def test_failures_and_answers_about_the_moment_are_never_kept(keep: Any, raised: bool, status: int) -> None:
    assert not Policy(keep=keep).keeps(status, raised=raised)


@pytest.mark.parametrize(
    ("keep", "returned_400", "raised_400"),
    [("success", False, False), ("returned", True, False), ("raised", True, True)],
)
def test_refusals_of_the_view_are_kept_as_the_policy_says(keep: Any, returned_400: bool, raised_400: bool) -> None:
    policy = Policy(keep=keep)
    assert [policy.keeps(status) for status in (200, 201, 204, 302, 399)] == [True] * 5
    assert [policy.keeps(status) for status in (400, 404, 409, 422)] == [returned_400] * 4
    assert [policy.keeps(status, raised=True) for status in (400, 404, 409, 422)] == [raised_400] * 4


def test_only_a_policy_with_fields_filters_them() -> None:
    assert Policy().field_filter is None
    excluding = Policy(fingerprint_exclude=["sent_at"]).field_filter
    selecting = Policy(fingerprint_fields=["amount", "sent_at"], fingerprint_exclude=["sent_at"]).field_filter
    nothing = Policy(fingerprint_fields=[]).field_filter
    assert excluding is not None
    assert selecting is not None
    assert nothing is not None
    assert [excluding(name) for name in ("amount", "sent_at", "memo")] == [True, False, True]
    assert [selecting(name) for name in ("amount", "sent_at", "memo")] == [True, False, False]
    assert not nothing("amount")


def test_by_default_every_replay_is_allowed_and_no_form_field_is_read() -> None:
    assert (Policy().may_replay, Policy().form_field) == (None, "")


def test_the_judge_of_replays_and_the_form_field_are_part_of_the_value() -> None:
    assert Policy(may_replay=bool, form_field="key") == Policy(may_replay=bool, form_field="key")
    assert Policy(may_replay=bool) != Policy()
    assert Policy(form_field="key") != Policy()

"""Whom the middleware enrols."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from django_idempotency import Policy
from django_idempotency.http.enrolment import policy_of
from tests.conformance import views_plain as views

FIRST, SECOND, SCOPED = Policy(required=True), Policy(), Policy(scope=lambda request: "a partner")
ENROLLED = {"payments:create": FIRST, "payments:*": SECOND, "partners:*": SCOPED}


@pytest.mark.parametrize(
    ("view", "name", "policy"),
    [
        pytest.param(views.bare, "payments:create", FIRST, id="the first match counts"),
        pytest.param(views.bare, "payments:list", SECOND, id="a pattern"),
        pytest.param(views.bare, "payments", None, id="no match"),
        pytest.param(views.bare, "PAYMENTS:create", None, id="names are compared with case"),
        pytest.param(views.AttributeView.as_view(), "other", Policy(required=True), id="an attribute of the class"),
        pytest.param(views.AttributeView.as_view(), "payments:list", Policy(required=True), id="which goes first"),
        pytest.param(views.OptedOutView.as_view(), "payments:create", None, id="None opts out"),
        pytest.param(views.decorated, "payments:create", None, id="the decorator is left alone"),
        pytest.param(views.DecoratedView.as_view(), "payments:create", None, id="on a class too"),
        pytest.param(views.mixed, "payments:create", None, id="the mixin is left alone"),
        pytest.param(views.drf, "payments:create", None, id="nobody knows who asks"),
        pytest.param(views.drf, "partners:create", SCOPED, id="the policy knows who asks"),
    ],
)
def test_a_view_has_one_policy_or_none(view: Any, name: str, policy: Policy | None) -> None:
    with override_settings(IDEMPOTENCY_ENROLLED=ENROLLED):
        assert policy_of(view, name) == policy


def test_a_function_may_carry_its_policy() -> None:
    def view(request: Any) -> None: ...

    view.idempotency = FIRST  # type: ignore[attr-defined]
    assert policy_of(view, "other") is FIRST

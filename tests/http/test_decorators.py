"""The decorator stores intent, and nothing else."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.auth.decorators import login_required
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.views import APIView

import django_idempotency
from django_idempotency import Policy, idempotent

ALONE = """
import sys
import django_idempotency
assert not [name for name in sys.modules if name.partition(".")[0] in ("django", "rest_framework", "asgiref")]
from django_idempotency import Policy, idempotent

@idempotent(Policy(store="nowhere"))
def view(request): ...

assert not [name for name in sys.modules if name.startswith(("rest_framework", "psycopg"))]
assert not [name for name in sys.modules if name.startswith("django_idempotency") and name.endswith("models")]
from django.conf import settings
assert not settings.configured
"""


def pay(request: HttpRequest) -> HttpResponse:
    """Pay."""
    return HttpResponse()


async def apay(request: HttpRequest) -> HttpResponse:
    """Pay."""
    return HttpResponse()


def test_neither_importing_nor_applying_it_touches_settings_models_or_stores() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", ALONE], check=True)


def test_the_package_has_no_other_lazy_names() -> None:
    with pytest.raises(AttributeError, match="idempotant"):
        _ = django_idempotency.idempotant  # type: ignore[attr-defined]


@pytest.mark.parametrize("view", [pay, apay])
def test_a_view_stays_what_it_was(view: Any) -> None:
    wrapped = idempotent(required=True)(view)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__module__) == (view.__name__, "Pay.", __name__)
    assert iscoroutinefunction(wrapped) == inspect.iscoroutinefunction(wrapped) == (view is apay)
    assert not hasattr(view, "_non_atomic_requests")


def test_what_is_marked_as_a_coroutine_function_is_one() -> None:
    assert iscoroutinefunction(idempotent()(markcoroutinefunction(lambda request: apay(request))))


def test_classes_keep_their_kind() -> None:
    class Sync(View):
        def post(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse()

    class Async(View):
        async def post(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse()

    decorate = method_decorator(idempotent(), name="dispatch")
    assert [iscoroutinefunction(decorate(kind).as_view()) for kind in (Sync, Async)] == [False, True]


def test_decorators_outside_pass_on_that_the_transaction_is_ours() -> None:
    view: Any = login_required(idempotent()(pay))
    assert connection.alias in view._non_atomic_requests


def test_a_policy_or_its_fields() -> None:
    by_policy: Any = idempotent(Policy(required=True))(pay)
    by_fields: Any = idempotent(required=True)(pay)
    assert by_policy.idempotency == by_fields.idempotency == Policy(required=True)


@pytest.mark.parametrize(
    ("decorate", "told"),
    [
        (lambda: idempotent(pay), "parentheses"),  # type: ignore[arg-type]
        (lambda: idempotent(requierd=True), "requierd"),
        (lambda: idempotent()(type("PayView", (View,), {})), "method_decorator"),
        (lambda: idempotent()(APIView.as_view()), "django_idempotency.rest_framework"),
    ],
)
def test_what_would_not_work_fails_when_it_is_applied(decorate: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        decorate()

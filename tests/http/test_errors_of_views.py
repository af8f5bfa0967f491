"""Errors of ours that a view raises of itself: what has a problem is answered so, all else is the view's own error."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from django.http import HttpRequest
from django.test import Client
from django.urls import path
from rest_framework.authentication import TokenAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from django_idempotency import Policy, idempotent
from django_idempotency.audit.models import AuditEvent
from django_idempotency.exceptions import Duplicate, IdempotencyError
from django_idempotency.rest_framework import IdempotencyMixin
from tests.callers import Caller, new_key

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


class Refused(IdempotencyError):
    """A room of its own has refused something."""

    def __init__(self, *, what: str) -> None:
        super().__init__(what)


class Known(Duplicate):
    """The same letter was sent before."""

    def __init__(self, *, letter: str) -> None:
        super().__init__(letter)


ERRORS: dict[str, IdempotencyError] = {
    "foreign": Refused(what="no such topic"),
    "ours": Known(letter="The letter was sent on Monday."),
}


def fail(name: str) -> NoReturn:
    raise ERRORS[name]


class View(IdempotencyMixin, APIView):
    authentication_classes = (TokenAuthentication,)
    idempotency = Policy(required=True)

    def post(self, request: Request, name: str) -> NoReturn:
        fail(name)


@idempotent(required=True, scope=lambda request: "somebody")
def decorated(request: HttpRequest, name: str) -> NoReturn:
    fail(name)


@idempotent(required=True, scope=lambda request: "somebody")
async def asynchronous(request: HttpRequest, name: str) -> NoReturn:
    fail(name)


urlpatterns = [
    path("mixin/<name>/", View.as_view()),
    path("decorated/<name>/", decorated),
    path("async/<name>/", asynchronous),
]
KINDS = pytest.mark.parametrize("kind", ["mixin", "decorated", "async"])


@KINDS
def test_an_error_that_is_not_of_the_protocol_is_the_views_own(alice: Caller, kind: str) -> None:
    alice.client = Client(raise_request_exception=True)
    with pytest.raises(Refused, match="no such topic"):
        alice.post(f"/{kind}/foreign/", key=new_key())
    alice.client = Client(raise_request_exception=False)
    assert alice.post(f"/{kind}/foreign/", key=new_key()).status_code == 500
    assert {(event.event, event.reason) for event in AuditEvent.objects.all()} == {("failed", "Refused")}


@KINDS
def test_one_that_has_a_problem_is_answered_so_in_its_own_words(alice: Caller, kind: str) -> None:
    answer: Any = alice.post(f"/{kind}/ours/", key=new_key())
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate")
    assert "on Monday" in answer.json()["detail"]

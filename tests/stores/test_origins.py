"""A record says which request it came from and what it is about."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.models import Record
from tests.callers import Caller, new_key
from tests.conformance.views_responses import scripted
from tests.models import Payment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.conformance.urls_redis")]
KINDS = pytest.mark.parametrize("path", ["/required/", "/leased/"])


def concerned(request: Request) -> Response:
    payment = Payment.objects.latest("pk")
    claim: Any = request._request.idempotency  # type: ignore[attr-defined]
    claim.concern("a text")
    claim.concern(payment)
    return Response({}, status=201)


@KINDS
def test_the_id_of_the_request_is_kept(alice: Caller, path: str) -> None:
    with scripted():
        alice.post(path, key=new_key(), headers={"X-Request-ID": "r-1" + "x" * 300})
        alice.post(path, key=new_key())
        alice.post(path, key=new_key(), headers={"X-Request-ID": "a\x00b"})
    kept = list(Record.objects.order_by("pk").values_list("request_id", flat=True))
    assert kept == [("r-1" + "x" * 300)[:255], "", ""]


@KINDS
def test_what_the_view_names_last_is_kept(alice: Caller, path: str) -> None:
    with scripted(concerned):
        assert alice.post(path, key=new_key()).status_code == 201
    assert Record.objects.get().about == f"{Payment._meta.label_lower}:{Payment.objects.get().pk}"

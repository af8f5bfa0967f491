"""Routes of the tests about bodies at rest: one for each way to keep them, and for each kind of view."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path
from rest_framework.authentication import TokenAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import Policy, idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.conformance.views_responses import ScriptedView
from tests.models import Payment

POLICIES = {
    "full": Policy(),
    "encrypted": Policy(body="encrypted"),
    "raised": Policy(body="encrypted", keep="raised"),
    "leased": Policy(body="encrypted", claim="lease"),
    "small": Policy(body="encrypted", max_body=4),
    "hash": Policy(body="hash_only"),
    "none": Policy(body="none"),
}
SECRET = "canary-of-a-step"


class SteppingView(IdempotencyMixin, APIView):
    """Takes a step whose result is a secret, then breaks off, or answers with what the step has given."""

    authentication_classes = (TokenAuthentication,)
    idempotency = Policy(body="encrypted", claim="lease")
    breaks_off = False
    calls = 0

    def post(self, request: Any) -> Response:
        token = request.idempotency.step("token", self.call)
        Payment.objects.create(amount=1)
        if type(self).breaks_off:
            raise OSError
        return Response({"token": token}, status=201)

    def call(self) -> str:
        type(self).calls += 1
        return SECRET


@idempotent(body="encrypted", scope=lambda request: "somebody")
async def asynchronous(request: HttpRequest) -> JsonResponse:
    """Answer, from an asynchronous view."""
    await Payment.objects.acreate(amount=1)
    return JsonResponse({"nonce": SECRET}, status=201, headers={"Location": f"/{SECRET}/"})


urlpatterns = [
    *(path(f"{name}/", ScriptedView.as_view(idempotency=policy), name=name) for name, policy in POLICIES.items()),
    path("stepping/", SteppingView.as_view(), name="stepping"),
    path("async/", asynchronous, name="async"),
]

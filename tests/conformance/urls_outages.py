"""Routes of the tests about outages: views that are to run although their store is gone, of each kind."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path

from django_idempotency import Policy, idempotent
from tests.conformance.views_responses import ScriptedView, ThrottledView
from tests.models import Payment

OPEN: dict[str, Any] = {"on_outage": "run"}


@idempotent(scope=lambda request: "somebody", **OPEN)
def decorated(request: HttpRequest) -> JsonResponse:
    """Write one row."""
    return JsonResponse({"id": Payment.objects.create(amount=1).pk}, status=201)


@idempotent(scope=lambda request: "somebody", **OPEN)
async def asynchronous(request: HttpRequest) -> JsonResponse:
    """Write one row, from an asynchronous view."""
    return JsonResponse({"id": (await Payment.objects.acreate(amount=1)).pk}, status=201)


urlpatterns = [
    path("mixin/", ScriptedView.as_view(idempotency=Policy(required=True, **OPEN))),
    path("throttled/", ThrottledView.as_view(idempotency=Policy(throttle_replays=False, **OPEN))),
    path("decorated/", decorated),
    path("async/", asynchronous),
    path("closed/", ScriptedView.as_view(idempotency=Policy(required=True))),
]

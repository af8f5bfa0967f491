"""The charges of the API once more, as views of Django alone: one synchronous, one asynchronous."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from io import BytesIO
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from rest_framework.exceptions import APIException
from rest_framework.parsers import JSONParser

from demo_project.faults import requested_fault
from demo_project.serializers import ChargeSerializer
from demo_project.tokens import token_required
from django_idempotency import idempotent


@csrf_exempt
@require_POST
@token_required
@idempotent(required=True)
def create_charge(request: HttpRequest) -> HttpResponse:
    """Make a charge, in one transaction with the record of it."""
    try:
        fault, charge = requested_fault(request), _read(request)
    except APIException as error:
        return _refusal(error)
    return fault.strike(_created(request, _save(charge)))


@csrf_exempt
@require_POST
@token_required
@idempotent(required=True, claim="lease", lease=timedelta(seconds=settings.DEMO_LEASE_SECONDS))
async def acreate_charge(request: Any) -> HttpResponse:
    """Make a charge; its row and the step that knows of it are committed together."""
    try:
        fault, charge = requested_fault(request), _read(request)
    except APIException as error:
        return _refusal(error)
    facts = await request.idempotency.acommit("charge", partial(_save, charge))
    return await fault.astrike(_created(request, facts))


def _read(request: HttpRequest) -> ChargeSerializer:
    """Read and judge the body. Raises ParseError, ValidationError."""
    charge = ChargeSerializer(data=JSONParser().parse(BytesIO(request.body)))
    charge.is_valid(raise_exception=True)
    return charge


def _save(charge: ChargeSerializer) -> dict[str, Any]:
    charge.save()
    return dict(charge.data)


def _created(request: HttpRequest, facts: dict[str, Any]) -> HttpResponse:
    address = request.build_absolute_uri(reverse("charge-detail", args=[facts["id"]]))
    return JsonResponse(facts, status=201, headers={"Location": address})


def _refusal(error: APIException) -> HttpResponse:
    detail = error.detail if isinstance(error.detail, dict) else {"detail": error.detail}
    return JsonResponse(detail, status=error.status_code)

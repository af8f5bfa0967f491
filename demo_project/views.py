"""The API: charges that are made once, however often they are asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from demo_project.faults import requested_fault
from demo_project.models import Charge
from demo_project.serializers import ChargeQuery, ChargeSerializer
from django_idempotency import Policy
from django_idempotency.rest_framework import IdempotencyMixin


class ChargeViewSet(
    IdempotencyMixin,
    mixins.CreateModelMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    viewsets.GenericViewSet[Charge],
):
    """Charges. Creating one requires an idempotency key, changing one takes it if there is one."""

    queryset = Charge.objects.order_by("-created_at", "id")
    serializer_class = ChargeSerializer
    lookup_value_regex = "ch_[0-9a-f]{24}"
    http_method_names = ("get", "post", "patch", "head", "options")
    idempotency = Policy(required=True, ttl=timedelta(hours=24))
    changes = Policy(ttl=timedelta(hours=24))

    def get_idempotency_policy(self) -> Policy | None:
        """A change sets what the client names, so that a repetition does little harm: its key is optional."""
        return self.changes if self.action == "partial_update" else self.idempotency

    def get_queryset(self) -> QuerySet[Charge]:
        """Narrow the list to one user."""
        charges = super().get_queryset()
        if self.action != "list":
            return charges
        query = ChargeQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        return charges.filter(**query.validated_data)

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make a charge."""
        fault = requested_fault(request)
        return fault.strike(super().create(request, *args, **kwargs))

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change a charge."""
        fault = requested_fault(request)
        return fault.strike(super().partial_update(request, *args, **kwargs))

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """Say where the charge is."""
        return {"Location": reverse("charge-detail", args=[data["id"]], request=self.request)}

"""Payouts: money leaves through an outside bank, so the claim is a lease and the transfer a step of its own."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from rest_framework import mixins, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from demo_project.bank import FAULT_HEADER
from demo_project.banking import BankFailed, transfer
from demo_project.faults import requested_fault
from demo_project.models import Payout
from demo_project.serializers import PayoutSerializer
from django_idempotency import Policy
from django_idempotency.exceptions import NotDone
from django_idempotency.rest_framework import IdempotencyMixin


class BankUnavailable(APIException):
    """The bank did not pay, as far as is known. A retry asks it again, under the same key."""

    status_code = 502
    default_code = "bank_unavailable"


class PayoutViewSet(IdempotencyMixin, mixins.CreateModelMixin, viewsets.GenericViewSet[Payout]):
    """Payouts, each with a key."""

    queryset = Payout.objects.all()
    serializer_class = PayoutSerializer
    idempotency = Policy(
        required=True,
        claim="lease",
        lease=timedelta(seconds=settings.DEMO_LEASE_SECONDS),
        # The bank pays once for a derived key, so what broke off can be asked of it again.
        on_crash="retry",
    )

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Send the money."""
        fault = requested_fault(request)
        return fault.strike(super().create(request, *args, **kwargs))

    def perform_create(self, serializer: BaseSerializer[Payout]) -> None:
        """Let the bank pay before anything is written: SQLite lets nobody else write meanwhile."""
        serializer.save(bank_reference=self._transfer(**serializer.validated_data))

    def _transfer(self, user_id: str, amount_cents: int) -> str:
        fault = self.request.headers.get(FAULT_HEADER, "") if settings.DEMO_FAULTS else ""
        call = partial(transfer, user_id=user_id, amount_cents=amount_cents, fault=fault)
        try:
            reference: str = self.request.idempotency.step("transfer", call, provider="bank")  # type: ignore[attr-defined]
        except (BankFailed, NotDone) as error:
            raise BankUnavailable(str(error)) from error
        return reference
